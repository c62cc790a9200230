FROM golang:alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY *.go ./
RUN go vet . && go build -o /bin/greet && go version -m /bin/greet > /bin/greet.txt
FROM alpine
COPY --from=build /bin/greet /bin/greet.txt /usr/local/bin/
CMD ["greet"]
