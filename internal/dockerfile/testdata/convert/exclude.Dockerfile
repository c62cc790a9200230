FROM busybox
COPY --exclude=*.md --exclude=vendor . /src/
ADD --unpack=false archive.tar.gz /
ADD --keep-git-dir archive.tar /
COPY --chmod=u=rwX,go=rX a /a
COPY --link --chown=7:8 b c /d/
COPY ["json form", "/json/"]
