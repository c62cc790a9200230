FROM golang:alpine AS base
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
FROM base AS test
COPY . .
RUN go vet ./... && touch /passed
FROM base AS build
COPY . .
RUN go build -o /bin/greet .
FROM alpine
COPY --from=test /passed /
COPY --from=build /bin/greet /usr/local/bin/greet
RUN mkdir -p /usr/local/share/greet && echo done > /usr/local/share/greet/state
