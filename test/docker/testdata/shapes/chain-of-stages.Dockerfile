ARG BASE=alpine:3.20
FROM ${BASE} AS base
RUN apk add bash
ENV STAGE=base
WORKDIR /srv
FROM base AS dependencies
COPY go.mod go.sum ./
RUN go mod download
FROM dependencies AS development
ENV STAGE development
CMD ["air"]
FROM dependencies AS build
COPY . .
RUN go build -o /srv/app .
FROM build AS test
RUN go test ./...
FROM base AS release
COPY --from=build /srv/app /srv/config.yaml /srv/
USER 1000:1000
CMD ["/srv/app"]
