FROM golang:bookworm AS build
ENV CGO_ENABLED=1
WORKDIR /src
COPY . .
RUN go build -o /bin/greet ./cgo && /bin/greet
FROM gcr.io/distroless/static
COPY --from=build /bin/greet /usr/local/bin/greet
ENTRYPOINT ["/usr/local/bin/greet"]
