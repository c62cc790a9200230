FROM golang:1.25
WORKDIR /app
COPY main.go .
RUN go build -o app
FROM alpine
RUN apk add openssl
FROM alpine
WORKDIR /root/
COPY --from=0 /app/app ./
COPY --from=1 /usr/bin/openssl /usr/bin/
CMD ["./app"]
