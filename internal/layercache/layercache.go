// Package layercache keeps the layers of single instructions, which kaniko
// finds and leaves in a folder, in a registry. The registry's credential is the
// steps' around kaniko: no RUN has it.
//
// A repository has an entry for each layer, as kaniko itself would have it
// (https://github.com/osscontainertools/kaniko#caching-layers): an image of that
// one layer, tagged with the key that kaniko computes from the instruction and
// all before it. Keys are not known before kaniko runs. So an image has an index
// there, an OCI image index of the entries that its last build used or made.
package layercache

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// MaxBytes is the most that an index's layers have together, compressed: a
// build brings them all in before it knows which it needs.
const MaxBytes = 1 << 30

// Entry is a layer in the cache.
type Entry struct {
	Key     string    `json:"key"`
	Digest  v1.Hash   `json:"digest"` // of the image
	Size    int64     `json:"size"`   // of the image's manifest
	Bytes   int64     `json:"bytes"`  // of the layer
	Created time.Time `json:"created"`
}

// bytesOf is how much an image's one layer has. kaniko fails a build for an
// entry with none or several.
func bytesOf(img v1.Image) (int64, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	if len(manifest.Layers) != 1 {
		return 0, fmt.Errorf("it is an image of %d layers, where an entry has one", len(manifest.Layers))
	}
	return manifest.Layers[0].Size, nil
}

// key is what kaniko names entries by.
var key = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Annotations of an index's entries.
const (
	keyAnnotation   = "dev.slipway.layer.key"
	bytesAnnotation = "dev.slipway.layer.bytes"
)

// parseIndex takes the entries from an index. What cannot be an entry is left
// out.
func parseIndex(raw []byte) ([]Entry, error) {
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil || index.MediaType != types.OCIImageIndex {
		return nil, fmt.Errorf("it is no index of layers")
	}
	var entries []Entry
	for _, manifest := range index.Manifests {
		e := Entry{Key: manifest.Annotations[keyAnnotation], Digest: manifest.Digest, Size: manifest.Size}
		created, err := time.Parse(time.RFC3339, manifest.Annotations[createdAnnotation])
		if _, scanErr := fmt.Sscan(manifest.Annotations[bytesAnnotation], &e.Bytes); err != nil || scanErr != nil || e.Bytes < 0 || !key.MatchString(e.Key) {
			continue
		}
		e.Created = created
		entries = append(entries, e)
	}
	return entries, nil
}

// createdAnnotation is OCI's own.
const createdAnnotation = "org.opencontainers.image.created"

// index is what parseIndex reads.
type index struct{ raw []byte }

func (i index) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i index) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

func newIndex(entries []Entry) (index, error) {
	manifest := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for _, e := range entries {
		manifest.Manifests = append(manifest.Manifests, v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Digest: e.Digest, Size: e.Size,
			Annotations: map[string]string{
				keyAnnotation: e.Key, bytesAnnotation: fmt.Sprint(e.Bytes), createdAnnotation: e.Created.UTC().Format(time.RFC3339),
			},
		})
	}
	raw, err := json.Marshal(manifest)
	return index{raw}, err
}

// bounded are the newest of entries that are younger than ttl and fit together.
func bounded(entries []Entry, ttl time.Duration, now time.Time) []Entry {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return b.Created.Compare(a.Created) })
	var kept []Entry
	var sum int64
	for _, e := range entries {
		if now.Sub(e.Created) > ttl || sum+e.Bytes > MaxBytes {
			continue
		}
		sum += e.Bytes
		kept = append(kept, e)
	}
	return kept
}

// Folder is where kaniko has its entries, each a layout in a folder of its own.
type Folder string

const entryName = "layer:"

// Flag is the value of kaniko's --cache-repo.
func (f Folder) Flag() string {
	return "oci:" + filepath.Join(string(f), strings.TrimSuffix(entryName, ":"))
}

func (f Folder) entry(key string) string { return filepath.Join(string(f), entryName+key) }

// keys are those of the entries in the folder.
func (f Folder) keys() ([]string, error) {
	found, err := os.ReadDir(string(f))
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, one := range found {
		if name, ok := strings.CutPrefix(one.Name(), entryName); ok && key.MatchString(name) && one.Type() == fs.ModeDir {
			keys = append(keys, name)
		}
	}
	return keys, nil
}
