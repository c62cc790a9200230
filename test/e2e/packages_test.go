package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"slices"
	"testing"

	containers "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	registrytypes "github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-ci/slipway/test/cluster"
)

// packages are what the stand-in for a package repository has: for each package
// the script that installs it. Programs are stand-ins that do as much as the
// Dockerfiles of testdata/wild ask of them.
var packages = map[string]string{
	"ca-certificates": program("update-ca-certificates", "true"),
	"curl":            program("curl", "true"),
	"gcc":             "wget -q -O - $from" + compilerFiles + " | tar -x -C /",
	"git":             program("git", `case " $* " in *" describe "*) echo v0.0.0 ;; *" log "*) echo 0123456789012345678901234567890123456789:0 ;; esac`),
	"make":            program("make", `awk -v "target=$1:" '$0 == target {on = 1; next} /^[^\t]/ {on = 0} on' Makefile | sh -e`),
	"musl-dev":        "test -e /usr/include/stdio.h", // gcc has brought another libc
	"openssh-client":  program("ssh-keyscan", "true"),
	"sqlite-dev":      "true",
	"sqlite-libs":     "true",
	"tzdata":          "mkdir -p /usr/share/zoneinfo/Etc && echo UTC >/usr/share/zoneinfo/Etc/UTC",
	"upx":             program("upx", "true"),
}

// compilerFiles are those of Debian's C compiler, which is the real one.
const compilerFiles = "/files/gcc"

// program is a script that installs a program.
func program(name, script string) string {
	return fmt.Sprintf("cat >/usr/bin/%[1]s <<'EOF'\n#!/bin/sh\n%[2]s\nEOF\nchmod 755 /usr/bin/%[1]s\n", name, script)
}

// servePackages is a stand-in for a package repository on the node, where pods
// reach it.
func (s *site) servePackages(t *testing.T) (url string) {
	t.Helper()
	compiler := s.compiler(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", cluster.NodeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	url = "http://" + listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == compilerFiles {
			files, err := compiler.Uncompressed()
			if err == nil {
				_, err = io.Copy(w, files)
				err = errors.Join(err, files.Close())
			}
			if err != nil {
				t.Error(err)
			}
			return
		}
		script, ok := packages[path.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "from="+url+"\n"+script)
	})}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	return url
}

// compiler is the layer of golang:bookworm that is not in golang:alpine.
func (s *site) compiler(t *testing.T) containers.Layer {
	t.Helper()
	file, err := s.pullTag(t, "library/golang", "alpine").ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := s.pullTag(t, "library/golang", "bookworm").Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		diff, err := layer.DiffID()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(file.RootFS.DiffIDs, diff) {
			return layer
		}
	}
	t.Fatal("golang:bookworm has no layer of its own")
	return nil
}

// packageManager is a stand-in for apk and apt-get: it takes packages from the
// repository at url.
func packageManager(url string) string {
	return `#!/bin/sh
set -e
install=
for word in "$@"; do
	case $word in
	-* | update | --update) ;;
	add | install) install=yes ;;
	*) [ -z "$install" ] || { wget -q -O /tmp/package ` + url + `/"$word" && sh /tmp/package && rm /tmp/package && echo "installed $word"; } ;;
	esac
done
`
}

// addUser is a stand-in for the adduser that the images' busybox has and the
// local cluster's has not: the last word is the name.
const addUser = `#!/bin/sh
id=1000
while [ $# -gt 1 ]; do
	case $1 in -u | --uid) id=$2; shift ;; esac
	shift
done
echo "$1:x:$id:$id::/home/$1:/bin/sh" >>/etc/passwd
echo "$1:x:$id:" >>/etc/group
mkdir -p "/home/$1" && chown "$id:$id" "/home/$1"
`

// with is an image with more files, all of them programs.
func with(t *testing.T, img containers.Image, files map[string]string) containers.Image {
	t.Helper()
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	for name, content := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(img, static.NewLayer(layer.Bytes(), registrytypes.DockerUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	return img
}
