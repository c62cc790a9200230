FROM gcr.io/distroless/base-debian12
ARG VERSION=dev
ARG COMMIT
ARG BUILD_DATE
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision=$COMMIT \
      org.opencontainers.image.created=${BUILD_DATE} \
      org.opencontainers.image.title='An "app"' "a key"="a value" multi.line="one \
two"
COPY app /
ENTRYPOINT ["/app"]
CMD []
