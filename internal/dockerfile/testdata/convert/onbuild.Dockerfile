FROM busybox AS base
WORKDIR /base
ONBUILD COPY go.mod go.sum ./
ONBUILD RUN first
ONBUILD WORKDIR src
ONBUILD COPY . .
ONBUILD RUN ["second"]
ONBUILD ENV A=b
ONBUILD LABEL a=b

FROM base AS one
COPY own /own

FROM base
COPY --from=one /base/src /one
RUN third
