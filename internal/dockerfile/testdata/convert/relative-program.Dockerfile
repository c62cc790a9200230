FROM golang
RUN ["go", "version"]
RUN ["/usr/local/go/bin/go", "version"]
SHELL ["bash", "-c"]
RUN by a relative shell
SHELL ["/bin/bash", "-c"]
RUN by an absolute shell
