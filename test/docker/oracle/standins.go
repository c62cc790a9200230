package oracle

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
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

// Serve has the registry serve an image of that name which has more files than the
// stand-in that it is like: the paths, those that end with / as folders. forget
// has to be called once no build needs it.
func (o *Oracle) Serve(ctx context.Context, ref, like string, paths []string) (forget func(), err error) {
	base, err := o.standIn(ctx, like)
	if err != nil {
		return nil, err
	}
	var nodes []node
	made := map[string]bool{"": true, ".": true}
	var parents func(name string)
	parents = func(name string) {
		if !made[name] {
			parents(strings.TrimPrefix(path.Dir(name), "."))
			made[name] = true
			nodes = append(nodes, folder(name, 0o755))
		}
	}
	for _, full := range paths {
		name := strings.Trim(path.Clean(full), "/")
		if strings.HasSuffix(full, "/") {
			parents(name)
			name = path.Join(name, "made")
		} else {
			parents(strings.TrimPrefix(path.Dir(name), "."))
		}
		nodes = append(nodes, executable(name, []byte(full+"\n")))
	}
	image, err := with(base, nodes...)
	if err != nil {
		return nil, err
	}
	return func() { o.blobs.forget(ref) }, push(ctx, o.registry, ref, image)
}

// standIn reads a stand-in back from the registry.
func (o *Oracle) standIn(ctx context.Context, image string) (v1.Image, error) {
	ref, err := name.NewTag(o.registry+"/library/"+image, name.Insecure)
	if err != nil {
		return nil, err
	}
	return remote.Image(ref, remote.WithContext(ctx))
}

// recorders are the programs that are the recorder.
var recorders = []string{"bin/sh", "bin/bash", "bin/ash", "bin/dash", "bin/zsh", "usr/bin/bash", "usr/bin/env", "usr/bin/python3"}

// standInImages makes the stand-ins.
func standInImages(record []byte) (map[string]v1.Image, error) {
	var passwd, group strings.Builder
	for _, user := range standInUsers {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:/bin/sh\n", user.name, user.uid, user.gid, strings.Replace("/home/"+user.name, "/home/root", "/root", 1))
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
	for _, program := range recorders {
		nodes = append(nodes, link(program, "/bin/record"))
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
