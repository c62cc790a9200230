from golang:1.25 as build
workdir /src
copy . .
run go build -o /out/app . \
  && ls /out
from alpine
copy --from=build /out/app /app
expose 8080
cmd ["/app"]
