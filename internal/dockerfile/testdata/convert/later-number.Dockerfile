FROM busybox AS a
RUN --mount=from=c,target=/c true
FROM busybox AS c
RUN true
FROM a
RUN true
