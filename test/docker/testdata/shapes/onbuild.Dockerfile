FROM golang:1.25 AS base
ONBUILD ARG NAME=app
ONBUILD WORKDIR /src
ONBUILD COPY . .
ONBUILD RUN go build -o /out/$NAME .

FROM base AS build

FROM alpine
COPY --from=build /out/ /usr/local/bin/
