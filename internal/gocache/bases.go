package gocache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"golang.org/x/sync/errgroup"
)

// BaseImages is a folder of base images, each an OCI image layout in a folder
// named by its digest. It is what kaniko's warmer leaves with
// FF_KANIKO_OCI_WARMER (pkg/warmer, ociWarmToFile), and kaniko reads it with
// the same setting. The other format, a tarball, makes Docker images of OCI
// ones, and with them another image of the build's result.
//
// An entry is complete or absent at every instant, whoever else uses the
// folder.
type BaseImages string

// Path is the folder of the entry digest.
func (b BaseImages) Path(digest v1.Hash) string {
	return filepath.Join(string(b), digest.String())
}

// Check reads all of the entry digest and returns its size in bytes. The error
// is [fs.ErrNotExist] where there is none, and otherwise says what is wrong
// with it. An entry that is right counts as used now.
func (b BaseImages) Check(digest v1.Hash) (int64, error) {
	size, err := b.check(digest)
	if err != nil {
		return 0, err
	}
	return size, entries(b).touch(digest.String())
}

func (b BaseImages) check(digest v1.Hash) (int64, error) {
	root, err := os.OpenRoot(b.Path(digest))
	if err != nil {
		return 0, err
	}
	defer root.Close()
	named, size, err := checkLayout(root, func(root *os.Root, blob v1.Descriptor) error { return checkBlob(context.Background(), root, blob) })
	if err != nil {
		return 0, damaged(err)
	}
	if named != digest {
		return 0, damaged(errors.New("index.json is of another image"))
	}
	return size, nil
}

// checkLayout compares a layout of one image with its digests, its blobs by
// check, and returns the image's digest and the size of its blobs.
func checkLayout(root *os.Root, check func(*os.Root, v1.Descriptor) error) (digest v1.Hash, size int64, err error) {
	index, err := root.ReadFile("index.json")
	if err != nil {
		return digest, 0, err
	}
	named, err := v1.ParseIndexManifest(strings.NewReader(string(index)))
	if err != nil {
		return digest, 0, err
	}
	if len(named.Manifests) != 1 {
		return digest, 0, fmt.Errorf("index.json names %d images", len(named.Manifests))
	}
	digest = named.Manifests[0].Digest
	raw, err := root.ReadFile(blobPath(digest))
	if err != nil {
		return digest, 0, err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != digest.Hex {
		return digest, 0, errors.New("the manifest was changed")
	}
	manifest, err := v1.ParseManifest(strings.NewReader(string(raw)))
	if err != nil {
		return digest, 0, err
	}
	var blobs errgroup.Group
	blobs.SetLimit(4)
	for _, blob := range append(manifest.Layers, manifest.Config) {
		size += blob.Size
		blobs.Go(func() error { return check(root, blob) })
	}
	return digest, size, blobs.Wait()
}

// damagedError keeps [fs.ErrNotExist] for an entry that is absent: what is
// damaged is not, whatever the problem says.
type damagedError struct{ problem error }

func (e damagedError) Error() string { return "damaged: " + e.problem.Error() }

func damaged(err error) error { return damagedError{err} }

func checkBlob(ctx context.Context, root *os.Root, blob v1.Descriptor) error {
	file, err := root.Open(blobPath(blob.Digest))
	if err != nil {
		return err
	}
	defer file.Close()
	defer context.AfterFunc(ctx, func() { _ = file.Close() })() // ends the reading
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	if hex.EncodeToString(hash.Sum(nil)) != blob.Digest.Hex {
		return fmt.Errorf("blob %s was changed", blob.Digest)
	}
	return nil
}

// checkSize is checkBlob at a glance.
func checkSize(root *os.Root, blob v1.Descriptor) error {
	info, err := root.Stat(blobPath(blob.Digest))
	if err == nil && info.Size() != blob.Size {
		err = fmt.Errorf("blob %s was changed", blob.Digest)
	}
	return err
}

func blobPath(digest v1.Hash) string {
	return filepath.Join("blobs", digest.Algorithm, digest.Hex)
}

// Add stores img, reading its layers; read is called with each number of bytes
// that came in, from several goroutines. An entry that is there already, as
// another run may have stored it by now, stays unless it is damaged.
func (b BaseImages) Add(ctx context.Context, img v1.Image, read func(int)) (err error) {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	temporary, err := entries(b).stage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	entry, err := layout.Write(temporary, empty.Index)
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	blobs, ctx := errgroup.WithContext(ctx)
	blobs.SetLimit(4)
	for _, layer := range layers {
		blobs.Go(func() error { return addLayer(ctx, entry, layer, read) })
	}
	if err := blobs.Wait(); err != nil {
		return err
	}
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	rawConfig, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	if err := entry.WriteBlob(config, io.NopCloser(strings.NewReader(string(rawConfig)))); err != nil {
		return err
	}
	rawManifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	if err := entry.WriteBlob(digest, io.NopCloser(strings.NewReader(string(rawManifest)))); err != nil {
		return err
	}
	descriptor, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	if err := entry.AppendDescriptor(*descriptor); err != nil {
		return err
	}
	return entries(b).commit(temporary, digest.String(), func() bool {
		_, err := b.check(digest)
		return err == nil
	})
}

func addLayer(ctx context.Context, entry layout.Path, layer v1.Layer, read func(int)) error {
	digest, err := layer.Digest()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	return entry.WriteBlob(digest, counted{content, read})
}

type counted struct {
	io.ReadCloser
	read func(int)
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.read(n)
	return n, err
}
