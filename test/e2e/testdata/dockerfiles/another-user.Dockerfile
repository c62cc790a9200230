FROM golang:alpine AS build
RUN adduser -D -u 1234 builder && mkdir /src && chown builder /src
USER builder
WORKDIR /src
COPY --chown=builder . .
RUN go build -o greet .
FROM gcr.io/distroless/static
COPY --from=build /src/greet /greet
USER nonroot
ENTRYPOINT ["/greet"]
