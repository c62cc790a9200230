FROM golang:alpine AS build
ENV GOFLAGS="-trimpath -mod=readonly" CGO_ENABLED=0
WORKDIR /src
COPY . .
RUN go build -o /bin/greet . ; go test ./... ; go build -o /bin/greet .
FROM scratch
COPY --from=build /bin/greet /
ENTRYPOINT ["/greet"]
