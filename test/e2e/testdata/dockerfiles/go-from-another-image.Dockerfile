FROM alpine
COPY --from=golang:alpine /usr/local/go /usr/local/go
ENV PATH=/usr/local/go/bin:$PATH
WORKDIR /src
COPY . .
RUN go build -o /bin/greet .
CMD ["greet"]
