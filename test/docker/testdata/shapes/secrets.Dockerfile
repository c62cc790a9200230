# syntax=docker/dockerfile:1
FROM golang:1.25 AS build
WORKDIR /src
RUN --mount=type=secret,id=netrc,target=/root/.netrc \
    --mount=type=ssh \
    git config --global url."ssh://git@example.com/".insteadOf https://example.com/ && go mod download
RUN --mount=type=secret,id=token \
    --mount=type=tmpfs,target=/tmp/work,size=64m \
    test -s /run/secrets/token || true
