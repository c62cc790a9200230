FROM busybox
LABEL a="b c" d='e'
MAINTAINER somebody
EXPOSE 80 443/udp
VOLUME /data
# Between what goes.
VOLUME ["/data2", "/data 3"]
COPY a /data/
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["/app"]

CMD run
USER 7
