FROM golang:1.25
WORKDIR /src
COPY ["go.mod", "go.sum", "./"]
RUN ["go", "mod", "download"]
RUN [ "/bin/sh", "-c", \
      "go build -o /app ." ]
RUN [not json, so a shell reads it]
CMD [ "/app" ]
