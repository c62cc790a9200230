package push

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// silent is a registry that takes everything and never says that it has it.
type silent struct{ layercache.Registry }

func (silent) Push(ctx context.Context, _ name.Tag, _ v1.Image, _ chan<- v1.Update) error {
	<-ctx.Done()
	return ctx.Err()
}

func (silent) Put(ctx context.Context, _ name.Tag, _ remote.Taggable) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestALayerCacheThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for title, layers := range map[string]int{"with a layer to send": 1, "with the index alone": 0} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "layers")
			if err := os.Mkdir(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			for range layers {
				img, err := random.Image(100, 1)
				if err != nil {
					t.Fatal(err)
				}
				entry, err := layout.Write(filepath.Join(folder, "layer:"+strings.Repeat("a", 64)), empty.Index)
				if err != nil {
					t.Fatal(err)
				}
				if err := entry.AppendImage(img); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) { // in which two minutes are over at once
				var stderr bytes.Buffer
				pushLayers(t.Context(), silent{}, &plan.Plan{Layers: &plan.Layers{Index: "registry.example/cache:index-1", Folder: layercache.Folder(folder), TTL: time.Hour, Run: true}}, &stderr)
				const want = "layer cache: not all of it is kept: the registry took over 2m0s\nlayer cache: 0 layers used, 0 new (0B) in 120.0 s\n"
				if stderr.String() != want {
					t.Errorf("got:\n%s", &stderr)
				}
			})
		})
	}
}
