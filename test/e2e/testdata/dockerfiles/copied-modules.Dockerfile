FROM golang:alpine AS deps
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
FROM golang:alpine
WORKDIR /src
COPY --from=deps /go/pkg/mod /go/pkg/mod
COPY . .
RUN go build -o /usr/local/bin/greet
CMD ["greet"]
