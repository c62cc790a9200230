FROM scratch

ADD https://git.example/team/app.git#v1 /src
