FROM golang:alpine
WORKDIR /src
COPY . .
RUN chown -R nobody /src
USER nobody
RUN go build -o /src/greet .
CMD ["/src/greet"]
