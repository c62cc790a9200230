FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN go build -o /bin/greet .
FROM scratch
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /
COPY --from=build /bin/greet /
ENTRYPOINT ["/greet"]
