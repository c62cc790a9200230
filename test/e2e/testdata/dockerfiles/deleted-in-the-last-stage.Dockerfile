FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN go build -o /bin/greet .
FROM golang:alpine
COPY --from=build /bin/greet /bin/greet
RUN rm -rf /etc/nsswitch.conf && mkdir -p /usr/local/share/greet
USER 65532:65532
CMD ["greet"]
