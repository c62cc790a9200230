FROM golang:alpine
WORKDIR /src
COPY . .
RUN go env -w CGO_ENABLED=0 && go build -o /bin/greet .
CMD ["greet"]
