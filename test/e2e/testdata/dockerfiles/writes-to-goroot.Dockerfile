FROM golang:alpine
RUN echo changed > /usr/local/go/VERSION.local && rm -r /usr/local/go/test /usr/local/go/misc || true
WORKDIR /src
COPY . .
RUN go build -o /bin/greet .
