FROM golang:alpine AS build
RUN echo builder:x:1234:1234::/home/builder:/bin/sh >> /etc/passwd && mkdir /src && chown 1234 /src
USER builder
WORKDIR /src
COPY --chown=builder . .
RUN GOFLAGS=-mod=readonly go build -o greet .
FROM gcr.io/distroless/static
COPY --from=build /src/greet /greet
USER nonroot
ENTRYPOINT ["/greet"]
