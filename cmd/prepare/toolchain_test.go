package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// Two runs that extract one base image's Go at the same time leave one that is
// whole.
func TestTwoRunsExtractOneToolchain(t *testing.T) {
	t.Parallel()
	img := golangImage(t)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	w.array("--registry-mirrors", serveTogether(t, "library/golang:kept", img, 2))
	w.write(t, "source/Dockerfile", "FROM golang:kept AS build\nRUN go build -o /app\nFROM scratch\nCOPY --from=build /app /\n")

	start := func(run string) (*exec.Cmd, *bytes.Buffer) {
		for key, dir := range map[string]string{"PREPARED_PATH": "prepared", "BUILT_PATH": "built", "SECRETS_PATH": "secrets-for-run", "LOGINS_PATH": "logins"} {
			w.mkdir(t, run, dir)
			w.env[key] = w.path(run, dir)
		}
		cmd, stderr := w.command(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, stderr
	}
	one, logOfOne := start("one")
	two, logOfTwo := start("two")
	for cmd, log := range map[*exec.Cmd]*bytes.Buffer{one: logOfOne, two: logOfTwo} {
		if err := cmd.Wait(); err != nil || !strings.Contains(log.String(), "toolchain of golang:kept: kept for later builds in ") {
			t.Errorf("%v\n%s", err, log)
		}
	}

	found, err := os.ReadDir(w.path("cache/toolchains"))
	if err != nil || len(found) != 1 || found[0].Name() != digest.String() {
		t.Errorf("the volume has %v, %v, want %s", found, err, digest)
	}
	if toolchain, err := gocache.Toolchains(w.path("cache/toolchains")).Look(t.Context(), digest); err != nil || !toolchain.Kept {
		t.Errorf("it is not what was extracted: %+v, %v", toolchain, err)
	}
	three, log := start("three")
	if err := three.Wait(); err != nil || strings.Contains(log.String(), "kept for later") || strings.Contains(log.String(), "downloading") {
		t.Errorf("it is not used as it is: %v\n%s", err, log)
	}
}

// golangImage has Go where golang's images have it, of 300 files.
func golangImage(t *testing.T) v1.Image {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	files := map[string]string{"etc/passwd": "", "usr/local/go/bin/go": "program", "usr/local/go/go.env": "GOTOOLCHAIN=local\n"}
	for i := range 300 {
		files[fmt.Sprintf("usr/local/go/src/p%d/p.go", i)] = strings.Repeat("package p\n", i)
	}
	for name, text := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(content.Bytes(), types.DockerUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// serveTogether is a registry with an image, which gives out layers only when
// as many as clients have asked for one.
func serveTogether(t *testing.T, image string, img v1.Image, clients int) (host string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	asked, all := 0, make(chan struct{})
	handler := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, layer.String()) {
			mu.Lock()
			if asked++; asked == clients {
				close(all)
			}
			mu.Unlock()
			select {
			case <-all:
			case <-r.Context().Done():
			}
		}
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "http://")
	tag, err := name.NewTag(host + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return host
}
