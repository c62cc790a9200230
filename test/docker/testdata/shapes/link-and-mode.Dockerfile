FROM alpine AS build
RUN make all
FROM alpine
COPY --link --from=build --chmod=0755 /out/app /usr/local/bin/app
COPY --link --chown=1000:1000 conf/ /etc/app/
COPY --chmod=u=rwX,go=rX scripts/run.sh /usr/local/bin/run
COPY --from=build --chown=65532:65532 /out/assets/ /assets/
ENTRYPOINT ["run"]
