FROM golang:alpine
WORKDIR /src
COPY . .
RUN go build -o /usr/local/bin/greet
CMD ["greet"]
