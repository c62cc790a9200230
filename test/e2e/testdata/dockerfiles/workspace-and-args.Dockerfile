FROM golang:alpine AS build
ARG CGO_ENABLED=0
ARG GOPROXY
ARG GOMODCACHE=/go/pkg/mod
ARG GOCACHE=/root/.cache/go-build
WORKDIR /workspace
COPY . .
RUN go build -trimpath -ldflags='-s -w' -o /bin/greet
FROM gcr.io/distroless/static
COPY --from=build /bin/greet /bin/greet
ENTRYPOINT ["/bin/greet"]
