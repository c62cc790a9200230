FROM example/nonroot AS build
RUN as the base says
COPY a /a
USER root
RUN as root
FROM build
RUN as root still
FROM example/nonroot
COPY --from=build /a /a
