package main

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// withLayers gives the plan a layer cache, in which kaniko has left one layer
// with the key.
func (b *built) withLayers(t *testing.T, index, key string) {
	t.Helper()
	p := plan.Plan{Started: time.Now(), Layout: b.path("layout"), Compiled: b.path("go/compiled.json"), Layers: &plan.Layers{
		Index: index, Folder: layercache.Folder(b.path("layers")), TTL: time.Hour, Used: b.path("layers/used.json"),
	}}
	must(t, p.Write(b.path("prepared")))
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	must(t, os.MkdirAll(b.path("layers"), 0o755))
	entry, err := layout.Write(b.path("layers/layer:"+key), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	must(t, entry.AppendImage(img))
}

func TestLayersAreKept(t *testing.T) {
	t.Parallel()
	host, key := serve(t, nil), strings.Repeat("a", 64)
	b := newBuilt(t, host+"/app")
	b.withLayers(t, host+"/app/cache:index-1", key)
	b.write(t, "layers/used.json", `["`+key+`", 1]`) // a RUN's work: as if nothing were known
	code, stderr := b.run(t)
	if code != 0 || !strings.Contains(stderr, "layer cache: 0 layers used, 1 new (") {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	for _, tag := range []string{"index-1", key} {
		ref, err := name.NewTag(host + "/app/cache:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Head(ref); err != nil {
			t.Error(err)
		}
	}
}

// What a build that pushes nothing has made reaches no other build.
func TestLayersOfABuildThatIsNotPushed(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	b := newBuilt(t, host+"/app")
	b.withLayers(t, host+"/app/cache:index-1", strings.Repeat("a", 64))
	b.withOutput(t, "images/app", "")
	b.env["PARAM_PUSH"] = "false"
	if stderr := b.mustRun(t); strings.Contains(stderr, "layer cache") {
		t.Error(stderr)
	}
	if _, err := remote.Head(tagOf(t, host+"/app/cache:index-1")); err == nil {
		t.Error("the layer cache was written")
	}
}

// A layer cache that cannot be written, or that a RUN has tampered with, is no
// reason for a build to fail.
func TestLayersThatAreNotKept(t *testing.T) {
	t.Parallel()
	readOnly := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/v2/app/cache/") {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	for title, tc := range map[string]struct {
		before func(http.ResponseWriter, *http.Request) bool
		forge  func(t *testing.T, entry string)
		want   string
	}{
		"read-only": {readOnly, func(*testing.T, string) {}, "refused to push app/cache (403, Forbidden)"},
		"a link": {nil, func(t *testing.T, entry string) {
			must(t, os.Remove(entry+"/index.json"))
			must(t, os.Symlink("/etc/passwd", entry+"/index.json"))
		}, "index.json is neither a file nor a folder"},
		"no layout": {nil, func(t *testing.T, entry string) { must(t, os.RemoveAll(entry+"/blobs")) }, "no such file or directory"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			host, key := serve(t, tc.before), strings.Repeat("a", 64)
			b := newBuilt(t, host+"/app")
			b.withLayers(t, host+"/app/cache:index-1", key)
			tc.forge(t, b.path("layers/layer:"+key))
			code, stderr := b.run(t)
			if code != 0 || b.results(t)["IMAGE_DIGEST"] != b.digest.String() || !strings.Contains(stderr, "layer cache: not all of it is kept: ") || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit code %d, want %s\n%s", code, tc.want, stderr)
			}
		})
	}
}
