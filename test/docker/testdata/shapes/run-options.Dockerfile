# syntax=docker/dockerfile:1-labs
FROM alpine
RUN --network=none make test
RUN --network=default --mount=type=cache,target=/root/.cache make
COPY --exclude=*.md --exclude=docs . /src
COPY --parents go.mod internal/a/a.go /parents/
