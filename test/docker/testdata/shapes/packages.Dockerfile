FROM ubuntu:24.04
MAINTAINER The Team <team@example.com>
ENV DEBIAN_FRONTEND noninteractive
ENV LANG="C.UTF-8" \
    PATH="/opt/tool/bin:${PATH}" GREETING='hello "you"' \
    EMPTY=
SHELL ["/bin/bash", "-o", "pipefail", "-euxc"]
RUN set -x; \
    apt-get update; \
	apt-get -qq install -y curl gnupg2 | tee /tmp/log; \
    curl -fsSL "https://example.com/key.gpg" | gpg --dearmor -o /usr/share/keyrings/x.gpg
RUN echo 'one $HOME' "two $HOME" three\ four && \
    printf '%s\n' "a;b" > /etc/x.conf
CMD tool --home $HOME
