package prepare

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/tag"
)

// layers is the layer cache that the params ask for; nil for none.
func (c *Config) layers() (*plan.Layers, error) {
	if c.LayerCacheRepo == "" {
		return nil, nil
	}
	repository, err := name.NewRepository(c.LayerCacheRepo)
	if err != nil {
		return nil, step.BadInput(fmt.Errorf("param layer-cache-repo: %w", err))
	}
	// Other images in the repository have other layers: none is brought in for
	// them.
	about := sha256.Sum256([]byte(strings.Join([]string{tag.WithoutTag(c.Image), c.Context, c.Dockerfile, c.Target}, "\n")))
	folder := filepath.Join(c.Built, "layers")
	return &plan.Layers{
		Index:  repository.Tag("index-" + hex.EncodeToString(about[:8])).Name(),
		Folder: layercache.Folder(folder),
		TTL:    c.LayerCacheTTL,
		Used:   filepath.Join(c.Built, "layers", "used.json"),
	}, nil
}

// pullLayers brings in what the layer cache has. A problem with it is told.
func pullLayers(ctx context.Context, client *registry.Client, layers *plan.Layers, log *log) error {
	if layers == nil {
		return nil
	}
	index, err := name.NewTag(layers.Index)
	if err != nil {
		return err
	}
	started := time.Now()
	layers.Pulled, err = layercache.Pull(ctx, client, index, layers.Folder, layers.TTL, started)
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
