FROM alpine
VOLUME /data /logs
COPY seed/ /data/
RUN touch /logs/first && chown 1000 /logs
WORKDIR /data/work
RUN touch here
