FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 go build -o /bin/greet
FROM gcr.io/distroless/static
COPY --from=build /bin/greet /usr/local/bin/greet
ENTRYPOINT ["/usr/local/bin/greet"]
