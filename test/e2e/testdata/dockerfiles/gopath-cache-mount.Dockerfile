FROM golang:alpine AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/ --mount=type=cache,target=/go/pkg/mod go build -o /bin/greet .
FROM scratch
COPY --from=build /bin/greet /bin/greet
ENTRYPOINT ["/bin/greet"]
