FROM golang:1.25 AS build
RUN go build -o /out/app
FROM build AS integration
RUN go test -tags=integration ./...
FROM example/private:latest AS never
RUN anything
FROM scratch AS artifact
COPY --from=build /out /
