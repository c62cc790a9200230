FROM alpine
ARG http_proxy
ARG HTTPS_PROXY=http://proxy.example:3128
ARG GOPROXY=https://goproxy.example,direct
ENV GOPROXY=${GOPROXY}
RUN go mod download
ENV HTTP_PROXY=
RUN apk update
