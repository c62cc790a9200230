FROM busybox
COPY --chown=app a /a
ADD --link --chown=7 --chmod=u+x b /b
