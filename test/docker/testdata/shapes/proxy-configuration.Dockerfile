FROM nginx:1.27-alpine
LABEL maintainer="web@example.com" \
      description="A proxy" version='1.0'
ARG CONF=default
COPY ${CONF}.conf.template /etc/nginx/templates/
COPY html /usr/share/nginx/html
COPY ["a file.txt", "another file.txt", "/with a blank/"]
EXPOSE 80 443/tcp 8000-8002/udp
STOPSIGNAL SIGTERM
VOLUME ["/var/cache/nginx", "/var/log/nginx"]
CMD ["nginx", "-g", "daemon off;"]
