package prepare

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// silent is a registry that takes every question and answers none.
type silent struct{ layercache.Registry }

func (silent) Get(ctx context.Context, _ name.Reference) (*remote.Descriptor, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestALayerCacheThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	folder := layercache.Folder(filepath.Join(t.TempDir(), "layers"))
	stopped := errors.New("stopped")
	for title, tc := range map[string]struct {
		stop time.Duration // when the run is cancelled
		want error
		log  string
	}{
		"the build goes on without": {pullFor + time.Second, nil, "layer cache: not all of it is used by this build: the registry took over 2m0s\nlayer cache: 0 layers, 0B in 120.0 s\n"},
		"the run is cancelled":      {pullFor - time.Second, stopped, ""},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // in which two minutes are over at once
				ctx, cancel := context.WithCancelCause(t.Context())
				defer time.AfterFunc(tc.stop, func() { cancel(stopped) }).Stop()
				var out bytes.Buffer
				err := pullLayers(ctx, silent{}, &plan.Layers{Index: "registry.example/cache:index-1", Folder: folder, TTL: time.Hour}, &log{out: &out})
				if !errors.Is(err, tc.want) || strings.TrimSpace(out.String()) != strings.TrimSpace(tc.log) {
					t.Errorf("%v\n%s", err, &out)
				}
			})
		})
	}
}
