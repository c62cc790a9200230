FROM scratch
ADD rootfs /
ADD a.txt b.txt /etc/
ENV PATH /bin:/usr/bin
USER nobody
WORKDIR /home
CMD ["/bin/init"]
