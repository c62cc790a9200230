FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN for folder in /workspace/toolchains /workspace/toolchains/*/go/src /workspace/cache/toolchains; do \
      if [ -d "$folder" ] && touch "$folder/evil.go"; then exit 1; fi; \
    done; \
    if cd "$(go list -f '{{.Dir}}' fmt)" && [ "$(pwd -P)" != "$(pwd)" ] && touch evil.go; then exit 1; fi; \
    cd /src && go build -o /bin/greet .
FROM scratch
COPY --from=build /bin/greet /greet
