FROM golang:bookworm AS build
WORKDIR /src
COPY . .
RUN CGO_ENABLED=1 CGO_CFLAGS="-O2 -g" go build -trimpath -ldflags '-linkmode external -extldflags "-static"' -o /bin/greet ./cgo && /bin/greet
FROM scratch
COPY --from=build /bin/greet /
ENTRYPOINT ["/greet"]
