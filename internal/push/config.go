package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-ci/slipway/internal/plan"
)

// configured is an image with another configuration.
type configured struct {
	v1.Image
	config   []byte
	manifest []byte
}

// withConfig gives the image that kaniko built the configuration of the plan.
// The layers are kaniko's, and the history says which instruction made them.
func withConfig(img v1.Image, p *plan.Plan) (v1.Image, error) {
	if len(p.ImageConfig) == 0 {
		return img, nil
	}
	built, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	// As JSON: the types for it here lack fields that Docker has.
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(p.ImageConfig, &fields); err != nil {
		return nil, fmt.Errorf("read the configuration of the plan: %w", err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	set := map[string]any{"rootfs": built.RootFS, "history": history(built, manifest, p)}
	if !p.Reproducible {
		set["created"] = built.Created.UTC().Format(time.RFC3339Nano)
	}
	for name, value := range set {
		if fields[name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	c := &configured{Image: img}
	if c.config, err = json.Marshal(fields); err != nil {
		return nil, err
	}
	manifest = manifest.DeepCopy()
	manifest.Config.Data = nil
	if manifest.Config.Digest, manifest.Config.Size, err = v1.SHA256(bytes.NewReader(c.config)); err != nil {
		return nil, err
	}
	c.manifest, err = json.Marshal(manifest)
	return c, err
}

// author is who says in a history that it made a layer.
const author = "slipway"

// history is that of the base image, and then an entry for each new layer, which
// names the instruction as the user wrote it.
func history(built *v1.ConfigFile, manifest *v1.Manifest, p *plan.Plan) []v1.History {
	var entries []v1.History
	layer := 0
	for _, entry := range built.History {
		if !entry.EmptyLayer {
			layer++
		}
		if entry.EmptyLayer || layer > len(manifest.Layers) || slices.Contains(p.BaseLayers, manifest.Layers[layer-1].Digest.String()) {
			entries = append(entries, entry)
			continue
		}
		by := strings.TrimSpace(entry.CreatedBy)
		if rest, ok := strings.CutPrefix(by, "RUN "); ok {
			if run, ok := runOf(p, rest); ok {
				by = run.String()
			}
		}
		one := v1.History{Author: author, CreatedBy: by}
		if !p.Reproducible {
			one.Created = entry.Created
		}
		entries = append(entries, one)
	}
	return entries
}

// RawConfigFile is [v1.Image]'s, as are the following.
func (c *configured) RawConfigFile() ([]byte, error) { return c.config, nil }

func (c *configured) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(c) }

func (c *configured) ConfigName() (v1.Hash, error) { return partial.ConfigName(c) }

func (c *configured) RawManifest() ([]byte, error) { return c.manifest, nil }

func (c *configured) Manifest() (*v1.Manifest, error) { return partial.Manifest(c) }

func (c *configured) Digest() (v1.Hash, error) { return partial.Digest(c) }

func (c *configured) Size() (int64, error) { return partial.Size(c) }

func (c *configured) LayerByDigest(hash v1.Hash) (v1.Layer, error) {
	if name, err := c.ConfigName(); err != nil || name == hash {
		layer, err2 := partial.ConfigLayer(c)
		if err != nil {
			return nil, err
		}
		return layer, err2
	}
	return c.Image.LayerByDigest(hash)
}

// index lists the one image of a layout.
func index(img v1.Image) ([]byte, error) {
	descriptor, err := partial.Descriptor(img)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{*descriptor}})
}
