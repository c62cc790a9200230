FROM busybox
RUN as root
USER app:staff
WORKDIR /home/app
COPY a .
COPY --chown=root b .
RUN --mount=type=cache,target=/cache,uid=7 --mount=type=secret,id=token as app
ENV HOME=/home/app
SHELL ["/bin/bash", "-c"]
RUN with bash
USER root
RUN as root again
USER 0:7
RUN with a group
