# apart
FROM busybox
WORKDIR /a
WORKDIR b
COPY x y/
COPY z z
ENV A=b
ADD https://files.example/x.tar.gz /
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://files.example/y /y
ADD archive.tar.xz /out
RUN in /a/b
