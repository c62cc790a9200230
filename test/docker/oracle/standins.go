package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// standIns are configurations as public images have them, by what the tag of the
// image that stands for them is.
var standIns = map[string]v1.Config{
	"plain": {Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
	"golang": {
		Cmd: []string{"bash"}, WorkingDir: "/go",
		Env: []string{"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOLANG_VERSION=1.25.4", "GOTOOLCHAIN=local", "GOPATH=/go"},
	},
	"distroless": {
		User: "0", WorkingDir: "/",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
	},
	"nonroot": {
		User: "65532", WorkingDir: "/home/nonroot",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
	},
	"node": {
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"node"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_VERSION=22.11.0", "YARN_VERSION=1.22.22"},
	},
	"nginx": {
		Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"}, StopSignal: "SIGQUIT",
		ExposedPorts: map[string]struct{}{"80/tcp": {}}, Labels: map[string]string{"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NGINX_VERSION=1.27.3", "PKG_RELEASE=1"},
	},
	"python": {
		Cmd: []string{"python3"},
		Env: []string{"PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "PYTHON_VERSION=3.13.0"},
	},
	"onbuild": {
		WorkingDir: "/usr/src/app", OnBuild: []string{"COPY . /usr/src/app", "RUN install-dependencies"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	},
}

// StandIn is the name of an image whose shells record what they are given, and
// run nothing. Its configuration is as [StandInConfig] says.
func StandIn(kind string) string { return "standin:" + kind }

// StandInConfig is the configuration of the image that [StandIn] named so.
func StandInConfig(image string) v1.Config {
	return standIns[strings.TrimPrefix(image, "standin:")]
}

// standInUsers are those that public images have, or that their instructions make.
var standInUsers = []struct {
	name     string
	uid, gid int
}{
	{"root", 0, 0}, {"nobody", 65534, 65534}, {"nonroot", 65532, 65532}, {"www-data", 33, 33}, {"node", 1000, 1000}, {"nginx", 101, 101},
	{"app", 1001, 1001}, {"appuser", 1002, 1003}, {"postgres", 70, 70}, {"redis", 999, 999},
}

// StandInUsers are the names of the users that a stand-in has, each of which has
// a group of the same name.
func StandInUsers() []string {
	var names []string
	for _, user := range standInUsers {
		names = append(names, user.name)
	}
	return names
}

// shells are where programs that RUN names without a shell's help may be.
var shells = []string{"sh", "bash", "ash", "dash", "zsh"}

// standInImages makes the stand-ins.
func standInImages(record []byte) (map[string]v1.Image, error) {
	var passwd, group strings.Builder
	for _, user := range standInUsers {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/home/%s:/bin/sh\n", user.name, user.uid, user.gid, user.name)
		fmt.Fprintf(&group, "%s:x:%d:\n", user.name, user.gid)
	}
	nodes := []node{
		folder("etc", 0o755), text("etc/passwd", passwd.String()), text("etc/group", group.String()),
		folder("etc/ssl", 0o755), folder("etc/ssl/certs", 0o755), text("etc/ssl/certs/ca-certificates.crt", "certificates\n"),
		folder("usr", 0o755), folder("usr/bin", 0o755), folder("usr/share", 0o755), folder("usr/local", 0o755), folder("usr/local/bin", 0o755),
		folder("usr/lib", 0o755), folder("lib", 0o755), folder("home", 0o755), owned(folder("home/nonroot", 0o700), 65532, 65532),
		owned(folder("home/node", 0o755), 1000, 1000), folder("root", 0o700), folder("tmp", 0o1777), folder("var", 0o755), folder("var/cache", 0o755),
		folder("opt", 0o755), folder("srv", 0o755), folder("go", 0o777), folder("go/src", 0o777), folder("go/bin", 0o777),
		folder("rec", 0o777), executable("rec/runs", nil, 0o666),
		folder("bin", 0o755), executable("bin/record", record),
	}
	for _, shell := range shells {
		nodes = append(nodes, link("bin/"+shell, "record"))
	}
	all, err := with(emptyImage(), nodes...)
	if err != nil {
		return nil, err
	}
	made := map[string]v1.Image{}
	for _, kind := range slices.Sorted(maps.Keys(standIns)) {
		file, err := all.ConfigFile()
		if err != nil {
			return nil, err
		}
		file = file.DeepCopy()
		file.OS, file.Architecture, file.Config = "linux", goarch, standIns[kind]
		if made["docker.io/library/"+StandIn(kind)], err = mutate.ConfigFile(all, file); err != nil {
			return nil, err
		}
	}
	return made, nil
}
