FROM scratch AS slipway-clear-0
RUN ["/prepared/bin/prepare","operation","/prepared","clear","@slipway-clear-0"]
FROM golang:alpine@sha256:GOLANG AS build
ARG CGO_ENABLED=0
ARG GOPROXY
ARG GOMODCACHE=/go/pkg/mod
ARG GOCACHE=/root/.cache/go-build
RUN ["/prepared/bin/prepare","operation","/prepared","2","3"]
WORKDIR /slipway-workspace
RUN go build -trimpath -ldflags='-s -w' -o /bin/feed-agg

RUN ["/prepared/bin/prepare","operation","/prepared","4","clear"]
FROM gcr.io/distroless/static@sha256:DISTROLESS AS slipway-stage-1
COPY --from=build /built/kept/stage-0.digest /built/kept/stage-0.digest
RUN ["/prepared/bin/prepare","operation","/prepared","0","1"]
