FROM gcr.io/distroless/static-debian12:nonroot AS shared
WORKDIR /app
FROM golang:1.25 AS build
RUN go build -o /out/server ./cmd/server
FROM shared
COPY --from=build /out/server server
COPY templates templates
COPY --chown=nonroot:nonroot data/ /var/lib/app/
ENTRYPOINT ["./server"]
