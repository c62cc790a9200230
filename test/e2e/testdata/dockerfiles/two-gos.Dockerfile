FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN go build -o /bin/greet .
FROM golang:second AS second
WORKDIR /src
COPY . .
RUN go build -o /bin/greet .
FROM scratch
COPY --from=build /bin/greet /greet
COPY --from=second /bin/greet /greet-second
