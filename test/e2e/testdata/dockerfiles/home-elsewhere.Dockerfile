FROM golang:alpine
ENV HOME=/home/builder
WORKDIR /src
COPY . .
RUN mkdir -p $HOME && go build -o /bin/greet .
CMD ["greet"]
