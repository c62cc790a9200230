FROM golang:alpine AS build
RUN apk add --no-cache git ca-certificates tzdata && update-ca-certificates
ENV USER=feeder UID=10001
RUN adduser --disabled-password --gecos "" --home "/nowhere" --shell "/sbin/nologin" --no-create-home --uid "${UID}" "${USER}"
WORKDIR $GOPATH/src/example.com/feeder/
COPY . .
RUN go get -d -v && go build -ldflags='-w -s -extldflags "-static"' -o /go/bin/feeder .

FROM scratch
COPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=build /go/bin/feeder /go/bin/feeder
USER feeder:feeder
ENTRYPOINT ["/go/bin/feeder"]
