FROM postgres:16
COPY docker-entrypoint.sh /usr/local/bin/
COPY initdb.d/ /docker-entrypoint-initdb.d/
RUN chmod +x /usr/local/bin/docker-entrypoint.sh && ln -s /usr/local/bin/docker-entrypoint.sh /
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 5432
CMD ["postgres"]
HEALTHCHECK NONE
