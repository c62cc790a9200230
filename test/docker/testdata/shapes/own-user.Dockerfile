FROM alpine:3.20
RUN addgroup -S web && adduser -S -G web web && mkdir -p /data /app/tmp && chown -R web:web /data /app
WORKDIR /app
COPY --chown=web:web ./bin/app ./
COPY --chown=1000 config/*.yaml config/
COPY --chown=nobody:0 static/ static/
USER web
WORKDIR /app/tmp
COPY LICENSE .
RUN ./app migrate
VOLUME /data
ENV HOME=/data
CMD ["/app/app", "-data", "/data"]
