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
	"git":             program("git", `case " $* " in *" describe "*) echo v0.0.0 ;; *" log "*) echo 0123456789012345678901234567890123456789:0 ;; esac`),
	"make":            program("make", `awk -v "target=$1:" '$0 == target {on = 1; next} /^[^\t]/ {on = 0} on' Makefile | sh -e`),
	"openssh-client":  program("ssh-keyscan", "true"),
	"tzdata":          "mkdir -p /usr/share/zoneinfo/Etc && echo UTC >/usr/share/zoneinfo/Etc/UTC",
	"upx":             program("upx", "true"),
}

// program is a script that installs a program.
func program(name, script string) string {
	return fmt.Sprintf("cat >/usr/bin/%[1]s <<'EOF'\n#!/bin/sh\n%[2]s\nEOF\nchmod 755 /usr/bin/%[1]s\n", name, script)
}

// servePackages is a stand-in for a package repository on the node, where pods
// reach it.
func servePackages(t *testing.T) (url string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", cluster.NodeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		script, ok := packages[path.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, script)
	})}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	return "http://" + listener.Addr().String()
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
