FROM busybox AS one
RUN touch /a

FROM busybox
RUN touch /b

FROM one AS Three
RUN touch /c

FROM scratch
COPY --from=one /a* /x/
COPY --from=1 /b /b
COPY --from=three --chown=7:8 --chmod=0640 /a /c /y/
COPY --from=busybox:1 /bin/sh /bin/sh
COPY --from=busybox:1 --link /bin/cat /bin/
COPY --from=one --parents /usr/./share/* /etc/*.d/ /z/
