FROM golang:1.12-alpine
ENV APP github.com/example/app
RUN mkdir -p /go/src/$APP
ADD . /go/src/${APP}
WORKDIR /go/src/${APP}/cmd
WORKDIR ..
RUN go install -ldflags "-X main.version=`cat VERSION`" ${APP}/... && rm -rf /go/src
ENTRYPOINT /go/bin/app --flag
EXPOSE 9000
