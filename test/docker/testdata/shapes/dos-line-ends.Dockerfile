# A comment
FROM golang:1.25 AS build
WORKDIR /src
COPY . .
RUN go build \
    -o /out/app .
FROM alpine
COPY --from=build /out/app /app
ENTRYPOINT ["/app"]
