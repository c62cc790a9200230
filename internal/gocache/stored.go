package gocache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Config returns the configuration of the entry digest as JSON, checked against
// it. The error is [fs.ErrNotExist] where there is no entry.
func (b BaseImages) Config(digest v1.Hash) ([]byte, error) {
	if _, err := os.Stat(b.Path(digest)); err != nil {
		return nil, err
	}
	raw, err := storedImage{b.Path(digest), digest}.RawConfigFile()
	if err != nil {
		return nil, damaged(err)
	}
	return raw, nil
}

// Image is the entry digest. What is read of it is compared with its digest
// then: every RUN instruction of every build can write to the volume, so what
// Check has found right need not be any more. A layer that was changed is an
// error at its end.
func (b BaseImages) Image(digest v1.Hash) (v1.Image, error) {
	return partial.CompressedToImage(storedImage{b.Path(digest), digest})
}

// storedImage is an image of a layout. That of go-containerregistry compares
// nothing that it reads (pkg/v1/layout, compressedBlob).
type storedImage struct {
	dir    string
	digest v1.Hash
}

func (s storedImage) RawManifest() ([]byte, error) { return s.read(s.digest) }

func (s storedImage) MediaType() (types.MediaType, error) {
	manifest, err := partial.Manifest(s)
	if err != nil {
		return "", err
	}
	return manifest.MediaType, nil
}

func (s storedImage) RawConfigFile() ([]byte, error) {
	manifest, err := partial.Manifest(s)
	if err != nil {
		return nil, err
	}
	return s.read(manifest.Config.Digest)
}

// LayerByDigest is what [partial.CompressedImageCore] wants.
func (s storedImage) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := partial.Manifest(s)
	if err != nil {
		return nil, err
	}
	for _, layer := range append(manifest.Layers, manifest.Config) {
		if layer.Digest == digest {
			return storedBlob{s, layer}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", digest)
}

func (s storedImage) read(digest v1.Hash) ([]byte, error) {
	blob, err := s.open(digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob)
}

func (s storedImage) open(digest v1.Hash) (io.ReadCloser, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.Open(blobPath(digest))
	if err != nil {
		return nil, err
	}
	return &checkedBlob{file, digest, sha256.New()}, nil
}

type storedBlob struct {
	image storedImage
	blob  v1.Descriptor
}

func (s storedBlob) Digest() (v1.Hash, error)            { return s.blob.Digest, nil }
func (s storedBlob) Size() (int64, error)                { return s.blob.Size, nil }
func (s storedBlob) MediaType() (types.MediaType, error) { return s.blob.MediaType, nil }
func (s storedBlob) Compressed() (io.ReadCloser, error)  { return s.image.open(s.blob.Digest) }
func (s storedBlob) Descriptor() (*v1.Descriptor, error) { return &s.blob, nil }

// checkedBlob ends with an error where its content is not what its digest says.
type checkedBlob struct {
	io.ReadCloser
	digest v1.Hash
	hash   hash.Hash
}

func (c *checkedBlob) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(c.hash.Sum(nil)) != c.digest.Hex {
		err = fmt.Errorf("blob %s was changed", c.digest)
	}
	return n, err
}
