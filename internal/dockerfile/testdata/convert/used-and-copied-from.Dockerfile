FROM busybox AS deps
COPY go.mod /src/
WORKDIR /src

FROM deps AS build
RUN touch app
COPY --from=deps /src/go.mod /copy

FROM deps AS test
RUN never

FROM build
COPY --from=build /src/app /app
COPY --from=deps /src /src
