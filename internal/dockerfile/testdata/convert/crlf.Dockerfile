FROM busybox AS build
WORKDIR /src
COPY . \
  .
RUN first && \
  second
EXPOSE 80
RUN <<EOF
third
EOF

FROM scratch
COPY --from=build /src /src
CMD ["x"]
