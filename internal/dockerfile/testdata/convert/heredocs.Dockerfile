FROM busybox
ARG NAME=world
COPY <<EOF /etc/motd
hello $NAME
EOF
COPY <<"RAW" <<EOF /etc/
$NAME
RAW
$NAME
EOF
COPY --chmod=755 <<-run.sh /usr/bin/
	#!/bin/sh
	echo "$@"
	run.sh
RUN <<EOF
set -e
echo $NAME
EOF
RUN <<"EOF"
#!/usr/bin/env python3
print("$NAME")
EOF
RUN cat <<A <<B > /both
a
A
b
B
RUN python3 <<EOF
print(1)
EOF
