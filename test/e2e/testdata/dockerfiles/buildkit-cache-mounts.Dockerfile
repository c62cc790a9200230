# syntax=docker/dockerfile:1
FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    go build -o /bin/greet .
FROM scratch
COPY --from=build /bin/greet /bin/greet
ENTRYPOINT ["/bin/greet"]
