FROM golang:alpine AS build
ENV CGO_ENABLED=0
WORKDIR /src
COPY . .
RUN go build -trimpath -ldflags="-s -w" -o /bin/greet
FROM scratch
COPY --from=build /bin/greet /greet
ENTRYPOINT ["/greet"]
