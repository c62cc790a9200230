package push

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxManifest is the most bytes of an index, a manifest or a config. Registries
// commonly take 4 MiB.
const maxManifest = 4 << 20

// built is the one image in the layout that kaniko leaves at dir. What a RUN
// instruction ran could write there too, so nothing of it is believed: a link
// might lead to this step's credentials, a name may not be its content's.
func built(dir string) (v1.Image, error) {
	if err := onlyFiles(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	index, err := readSmall(root, "index.json")
	if err != nil {
		return nil, err
	}
	entries, err := v1.ParseIndexManifest(strings.NewReader(string(index)))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(entries.Manifests) != 1 {
		return nil, fmt.Errorf("index.json names %d images, not one", len(entries.Manifests))
	}
	entry := entries.Manifests[0]
	if entry.MediaType != types.OCIManifestSchema1 && entry.MediaType != types.DockerManifestSchema2 {
		return nil, fmt.Errorf("index.json names a %q, not an image", entry.MediaType)
	}
	raw, err := checked(root, entry.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(strings.NewReader(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", entry.Digest, err)
	}
	if _, err := checked(root, manifest.Config.Digest); err != nil {
		return nil, err
	}
	for _, layer := range manifest.Layers {
		if err := checkName(layer.Digest); err != nil {
			return nil, err
		}
		// Its content is the registry's to check, on arrival.
		info, err := root.Lstat(blob(layer.Digest))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
		if info.Size() != layer.Size {
			return nil, fmt.Errorf("layer %s has %d bytes, not the %d that the manifest says", layer.Digest, info.Size(), layer.Size)
		}
	}
	return layout.Path(dir).Image(entry.Digest)
}

func onlyFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && !entry.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		return nil
	})
}

func readSmall(root *os.Root, path string) ([]byte, error) {
	info, err := root.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxManifest {
		return nil, fmt.Errorf("%s has %d bytes, over the limit of %d", path, info.Size(), maxManifest)
	}
	return root.ReadFile(path)
}

func checked(root *os.Root, digest v1.Hash) ([]byte, error) {
	if err := checkName(digest); err != nil {
		return nil, err
	}
	content, err := readSmall(root, blob(digest))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest.Hex {
		return nil, fmt.Errorf("blob %s has another content", digest)
	}
	return content, nil
}

func checkName(digest v1.Hash) error {
	if _, err := v1.NewHash(digest.String()); err != nil || digest.Algorithm != "sha256" {
		return errors.Join(fmt.Errorf("%q is not the digest of a blob", digest), err)
	}
	return nil
}

// blob is a blob's path in a layout.
func blob(digest v1.Hash) string {
	return filepath.Join("blobs", digest.Algorithm, digest.Hex)
}
