package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// pushFor bounds the time that the layer cache may take.
const pushFor = 2 * time.Minute

// pushLayers keeps the layers that kaniko has made. A problem with that is told
// and no reason to fail: the image is there.
func pushLayers(ctx context.Context, registry layercache.Registry, layers *plan.Layers, stderr io.Writer) {
	if layers == nil {
		return
	}
	index, err := name.NewTag(layers.Index)
	if err != nil {
		fmt.Fprintf(stderr, "layer cache: %v\n", err)
		return
	}
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, pushFor, fmt.Errorf("the registry took over %s", pushFor))
	defer cancel()
	made, err := layercache.Push(ctx, registry, index, layers.Folder, layers.Pulled, usedLayers(layers.Used), built, layers.TTL, started)
	if err != nil {
		fmt.Fprintf(stderr, "layer cache: not all of it is kept: %v\n", err)
	}
	fmt.Fprintf(stderr, "layer cache: %d layers used, %d new (%s) in %.1f s\n",
		made.Kept, made.New, units.HumanSize(float64(made.Bytes)), time.Since(started).Seconds())
}

// usedLayers are the keys in the file; nil where that is not known. A RUN may
// have put something else in its place.
func usedLayers(path string) map[string]bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxManifest {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var keys []string
	if json.Unmarshal(content, &keys) != nil {
		return nil
	}
	used := map[string]bool{}
	for _, key := range keys {
		used[key] = true
	}
	return used
}
