package prepare

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/tag"
)

// pullFor bounds the time that the layer cache may take.
const pullFor = 2 * time.Minute

// layers is the layer cache that the params ask for; nil for none.
func (c *Config) layers(derived *dockerfile.Derived) (*plan.Layers, error) {
	if c.LayerCacheRepo == "" {
		return nil, nil
	}
	repository, err := name.NewRepository(c.LayerCacheRepo)
	if err != nil {
		return nil, step.BadInput(fmt.Errorf("param layer-cache-repo: %w", err))
	}
	// Other images in the repository have other layers: none is brought in for
	// them. Nor for a build with other settings that decide what is in a layer
	// and are not in kaniko's keys. Of a heredoc those have the first line alone.
	settings, err := json.Marshal([]any{
		tag.WithoutTag(c.Image), c.Context, c.Dockerfile, c.Target, derived.Heredocs(),
		c.GoFlags, c.IgnorePaths, c.IgnoreVarRun, c.SnapshotMode, c.UseNewRun, c.KanikoEnv, c.KanikoArgs,
	})
	if err != nil {
		return nil, fmt.Errorf("name the layer cache's index: %w", err)
	}
	about := sha256.Sum256(settings)
	folder := filepath.Join(c.Built, "layers")
	return &plan.Layers{
		Index:  repository.Tag("index-" + hex.EncodeToString(about[:8])).Name(),
		Folder: layercache.Folder(folder),
		TTL:    c.LayerCacheTTL,
		Run:    c.runLayers(derived),
		Copy:   c.CacheCopy,
		Used:   filepath.Join(c.Built, "layers", "used.json"),
	}, nil
}

// runLayers says whether the layer cache may have those of RUN. Modules that a
// RUN downloads are in the module cache and in no layer: with a layer in the
// RUN's place, later instructions would go without them.
func (c *Config) runLayers(derived *dockerfile.Derived) bool {
	return c.CacheRun && len(derived.ModuleDownloads()) == 0
}

// tellRunLayers says why there are none of RUN.
func tellRunLayers(c *Config, layers *plan.Layers, name string, derived *dockerfile.Derived, log *log) {
	if layers == nil || !c.CacheRun {
		return
	}
	for _, note := range derived.ModuleDownloads() {
		log.printf("layer cache: not for RUN: %s:%s leaves modules in the module cache, and a layer in its place would not have them", name, note.String())
	}
}

// pullLayers brings in what the layer cache has. A problem with it is told.
func pullLayers(ctx context.Context, registry layercache.Registry, layers *plan.Layers, log *log) error {
	if layers == nil {
		return nil
	}
	index, err := name.NewTag(layers.Index)
	if err != nil {
		return err
	}
	started := time.Now()
	pulling, cancel := context.WithTimeoutCause(ctx, pullFor, fmt.Errorf("the registry took over %s", pullFor))
	defer cancel()
	layers.Pulled, err = layercache.Pull(pulling, registry, index, layers.Folder, layers.TTL, started)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		log.printf("layer cache: not all of it is used by this build: %v", err)
	}
	var bytes int64
	for _, entry := range layers.Pulled {
		bytes += entry.Bytes
	}
	log.printf("layer cache: %d layers, %s in %.1f s", len(layers.Pulled), size(bytes), time.Since(started).Seconds())
	return nil
}
