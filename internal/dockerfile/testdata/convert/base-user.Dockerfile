FROM example/nonroot AS build
RUN as the base says
COPY a /a
USER root
RUN as root
FROM build AS heir
RUN as root still
USER 7
RUN as another
FROM example/nonroot
COPY --from=heir /a /a
