FROM busybox AS tools
RUN touch /tool

FROM golang
WORKDIR /src
RUN --mount=type=bind,target=. go build
RUN --mount=target=/in,source=sub,rw --mount=type=cache,target=/root/.cache/go-build go build -o /app
RUN --mount=from=tools,target=/tools --mount=type=tmpfs,target=/tmp/x /tools/tool
RUN --mount=type=bind,from=tools,source=/tool,target=/usr/bin/tool tool
RUN --mount=from=busybox:1,source=/bin,target=/busybox /busybox/sh
RUN --mount=type=secret,id=token,env=TOKEN /bin/only a secret
RUN --mount=type=secret,id=token --mount=type=tmpfs,target=/t and a tmpfs
RUN --mount=type=cache,target=/go/pkg/mod only a cache
