# escape=`
FROM busybox
WORKDIR /a`$b
COPY one `
     # a comment between
     two `
     /three/
RUN first && `
    second
LABEL a=`
b
