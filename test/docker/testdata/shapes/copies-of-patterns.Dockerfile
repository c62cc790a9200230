FROM golang:1.25 AS build
RUN go install ./...
FROM alpine
COPY --from=build /go/bin/* /usr/local/bin/
COPY --from=build /src/*.so /src/lib?.a /usr/lib/
COPY package*.json tsconfig[.]json ./
COPY docs/**/*.md /docs/
