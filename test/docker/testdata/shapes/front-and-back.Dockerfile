FROM node:22-alpine AS front
WORKDIR /app
COPY web/package.json web/yarn.lock ./
RUN yarn install --frozen-lockfile --network-timeout 1000000
COPY web/ .
RUN yarn build

FROM golang:1.25 as back
ENV GO111MODULE=on
ENV CGO_ENABLED 0
WORKDIR /go/src/app
ADD go.* ./
RUN go mod download
ADD . ./
COPY --from=front /app/dist ./web/dist
RUN go build -tags embed -o bin/app .

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      ca-certificates \
      # for health checks
      curl \

      tini \
 && rm -rf /var/lib/apt/lists/*
COPY --from=back /go/src/app/bin/app /usr/local/bin/
COPY --from=front /app/dist /srv/www
HEALTHCHECK --interval=30s --timeout=3s --retries=5 CMD curl -f http://localhost:${PORT:-8080}/healthz || exit 1
ENTRYPOINT ["tini", "--"]
CMD ["app", "serve"]
