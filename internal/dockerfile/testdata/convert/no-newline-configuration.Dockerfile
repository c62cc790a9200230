FROM busybox AS build
COPY a /a
FROM build
CMD x