FROM busybox AS build
RUN one

FROM busybox
COPY --from=build /a /a