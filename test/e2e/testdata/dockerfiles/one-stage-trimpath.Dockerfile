FROM golang:alpine
WORKDIR /src
COPY . .
RUN go build -trimpath -o /usr/local/bin/greet && rm -r /src
ENTRYPOINT ["/usr/local/bin/greet"]
