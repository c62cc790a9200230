# escape=`
FROM alpine
COPY a.txt `
     b.txt /dir\name/
RUN echo one && `
    echo two\three
