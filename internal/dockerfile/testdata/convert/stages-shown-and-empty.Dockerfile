FROM scratch AS empty

FROM busybox AS made
WORKDIR /out
RUN touch a

FROM golang
WORKDIR /work
RUN --mount=from=made ls out
RUN --mount=from=made,source=/out,target=. ls
RUN --mount=from=made,source=/out,target=in ls in
RUN --mount=from=empty,target=/nothing ls /nothing
COPY --from=empty / /dest
