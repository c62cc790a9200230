FROM golang
RUN in the base\'s
WORKDIR /a
WORKDIR b
RUN in /a/b
ENV DIR=/with/variable
WORKDIR ${DIR}/c
COPY x y/
WORKDIR /with\$dollar
RUN in that
WORKDIR /
RUN in the root
