FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN go build -o /bin/greet .
FROM gcr.io/distroless/static
WORKDIR /usr/local
COPY --from=build /bin/greet greet
