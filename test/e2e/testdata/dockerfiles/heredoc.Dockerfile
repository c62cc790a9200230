FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN <<EOF
set -e
go build -o /bin/greet .
go build -o /bin/greet-s -ldflags=-s .
EOF
FROM alpine
COPY --from=build /bin/greet /bin/greet-s /bin/
COPY <<EOF /etc/greet.conf
greeting = ahoy
EOF
CMD ["/bin/greet"]
