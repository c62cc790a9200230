FROM busybox
COPY a /a
ARG B=c
ENV D=${B}
COPY $D /d
# A comment that stays.
COPY e /e
USER 7
COPY f /f
RUN true
