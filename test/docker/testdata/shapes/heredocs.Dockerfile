# syntax=docker/dockerfile:1.7
FROM alpine:3.20 AS files
RUN <<EOF
apk add --no-cache jq
mkdir -p /out
EOF
RUN <<-"SCRIPT" sh -s one
	echo "$1" $HOME
	SCRIPT
RUN <<EOF
#!/usr/bin/env python3
print("hello")
EOF
ARG PORT=80
COPY <<EOF <<'RAW' /etc/app/
listen = ${PORT}
EOF
port = ${PORT}
RAW
FROM busybox
COPY --from=files /etc/app /etc/app
COPY --chmod=755 <<"EOF" /usr/local/bin/start
#!/bin/sh
exec app "$@"
EOF
ENTRYPOINT ["start"]
