FROM debian:12
ENV TZ=Europe/Berlin
RUN ln -snf /usr/share/zoneinfo/$TZ /etc/localtime && echo $TZ > /etc/timezone
COPY --from=debian:12 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
WORKDIR relative
WORKDIR deeper/still
COPY . .
RUN pwd
