FROM golang:1.9-onbuild
EXPOSE 8080
