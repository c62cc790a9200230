# syntax=docker/dockerfile:1
ARG XX=1.6
ARG GO=1.25
ARG FROM_SOURCE=false
FROM scratch AS tools-from-source
FROM --platform=$BUILDPLATFORM example/xx:${XX} AS xx
FROM --platform=$BUILDPLATFORM golang:${GO}-alpine AS base
COPY --link --from=xx / /
ENV GOFLAGS="-buildvcs=false"
WORKDIR /work
FROM base AS tools-binary
RUN [ "${FROM_SOURCE}" = true ] && exit 0; wget -O- https://example.com/tool | sh
FROM base AS lint
COPY --link --from=tools-from-source / /usr/bin/
RUN --mount=target=. --mount=target=/root/.cache,type=cache xx-go vet ./...
FROM base AS generated
RUN --mount=from=lint,source=/work,target=/lint <<EOT
  set -e
  mkdir /out
  cp -r /lint/. /out
EOT
FROM scratch AS update
COPY --from=generated /out /
FROM base AS validate
RUN --mount=from=generated,source=/out,target=.,rw ls
RUN --mount=from=update ls
