package prepare

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/step"
)

// progressEvery is how often a long download is heard of.
const progressEvery = 5 * time.Second

// bases are the base images of a build. kaniko takes them from a folder, so it
// needs neither a registry nor credentials.
type bases struct {
	client *registry.Client
	store  gocache.BaseImages // the volume's, or this run's
	caches *caches            // whose kept says that store is the volume's
	inUse  gocache.BaseImages // this run's: what kaniko reads, entries or links to the store's
	log    *log
	known  func(v1.Hash) // is told a digest as soon as it is known, one at a time

	mu    sync.Mutex
	found []*base

	retries int // of a download that breaks off
}

type base struct {
	image  string // as the Dockerfile names it
	digest v1.Hash
	remote v1.Image // nil where the store has it and nobody was asked
	bytes  int64    // of the store's entry, where it is known to be right
}

// add keeps them in an order that does not depend on who answers first.
func (b *bases) add(one *base) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known(one.digest)
	at, _ := slices.BinarySearchFunc(b.found, one, func(a, b *base) int {
		return cmp.Or(strings.Compare(a.image, b.image), strings.Compare(a.digest.String(), b.digest.String()))
	})
	b.found = slices.Insert(b.found, at, one)
}

// pin finds the digest of the platform's own manifest, and remembers the image
// for fetch. It is what [dockerfile.Options].Pin wants.
func (b *bases) pin(ctx context.Context, image, platform string) (string, error) {
	wanted, err := v1.ParsePlatform(platform)
	if err != nil {
		return "", step.BadInput(err)
	}
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", step.BadInput(err)
	}
	untagged, _, _ := strings.Cut(image, "@")
	if digest, ok := ref.(name.Digest); ok {
		hash, err := v1.NewHash(digest.DigestStr())
		if err != nil {
			return "", step.BadInput(err)
		}
		if bytes, err := b.store.Check(hash); err == nil {
			b.add(&base{image: image, digest: hash, bytes: bytes})
			return untagged + "@" + hash.String(), nil
		}
	}
	img, err := b.client.Image(ctx, image, *wanted)
	if errors.Is(err, registry.ErrRejected) {
		return "", step.BadInput(err)
	}
	if err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	b.add(&base{image: image, digest: digest, remote: img})
	return untagged + "@" + digest.String(), nil
}

// fetch puts the images that pin has found into the folder that kaniko reads,
// but for those that need not be there.
func (b *bases) fetch(ctx context.Context, needless func(v1.Hash) bool) error {
	if err := os.MkdirAll(string(b.inUse), 0o755); err != nil {
		return err
	}
	fetches, ctx := errgroup.WithContext(ctx)
	fetches.SetLimit(2)
	seen := map[v1.Hash]bool{}
	// Held until all are there, which may be long after the first one's use.
	early := make([]*gocache.Held, len(b.found))
	defer func() {
		for _, held := range early {
			_ = held.Release()
		}
	}()
	for i, one := range b.found {
		if seen[one.digest] || needless(one.digest) {
			continue
		}
		seen[one.digest] = true
		fetches.Go(func() error {
			if err := b.fetchOne(ctx, one); err != nil {
				return fmt.Errorf("base image %s: %w", one.image, err)
			}
			if b.caches.kept {
				early[i], _ = gocache.Hold(b.store.Path(one.digest))
			}
			return nil
		})
	}
	if err := fetches.Wait(); err != nil {
		return err
	}
	if b.caches.kept {
		for _, one := range b.found {
			b.caches.hold(b.store.Path(one.digest), b.store.Path(one.digest))
		}
	}
	return nil
}

func (b *bases) fetchOne(ctx context.Context, one *base) error {
	if one.remote != nil {
		var err error
		one.bytes, err = b.store.Check(one.digest)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return b.download(ctx, one)
		case err != nil:
			b.log.printf("base %s: what the cache has is not used: %v", one.image, err)
			return b.download(ctx, one)
		}
	}
	b.log.printf("base %s is %s: cached, %s", one.image, short(one.digest), size(one.bytes))
	return b.use(one)
}

// download stores an image. Where the volume has a problem with that, the
// image is kept for this run only.
func (b *bases) download(ctx context.Context, one *base) error {
	manifest, err := partial.Manifest(one.remote)
	if err != nil {
		return err
	}
	one.bytes = manifest.Config.Size
	for _, layer := range manifest.Layers {
		one.bytes += layer.Size
	}
	b.log.printf("base %s is %s: downloading %s", one.image, short(one.digest), size(one.bytes))
	started := time.Now()
	err = b.put(ctx, b.store, one)
	for left, wait := b.retries, time.Second; err != nil && left > 0 && mayPass(err); left, wait = left-1, 3*wait {
		b.log.printf("base %s: %v; again in %s", one.image, err, wait)
		if !sleep(ctx, wait) {
			break
		}
		err = b.put(ctx, b.store, one)
	}
	if err == nil {
		b.log.printf("base %s: downloaded in %.1f s", one.image, time.Since(started).Seconds())
		return b.use(one)
	}
	if !b.caches.kept || ctx.Err() != nil {
		return err
	}
	b.log.printf("base %s: not cached (%v); downloading it for this build only", one.image, err)
	return b.put(ctx, b.inUse, one)
}

// mayPass reports whether a download may go well the next time: not what the
// volume says, nor what the registry has decided.
func mayPass(err error) bool {
	var file *fs.PathError
	return !errors.As(err, &file) && !errors.Is(err, registry.ErrRejected) && !errors.Is(err, context.Canceled)
}

// sleep reports whether it was left alone.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (b *bases) put(ctx context.Context, store gocache.BaseImages, one *base) error {
	var read atomic.Int64
	defer step.Every(progressEvery, func() {
		b.log.printf("base %s: %s of %s", one.image, size(read.Load()), size(one.bytes))
	})()
	return store.Add(ctx, one.remote, func(n int) { read.Add(int64(n)) })
}

// use lets kaniko find the store's entry.
func (b *bases) use(one *base) error {
	if b.store == b.inUse {
		return nil
	}
	return os.Symlink(b.store.Path(one.digest), b.inUse.Path(one.digest))
}

func size(bytes int64) string { return units.HumanSize(float64(bytes)) }

// short is a digest for a log line.
func short(digest v1.Hash) string { return digest.Algorithm + ":" + digest.Hex[:12] }

// layers are those of the base image that becomes part of the target's.
func (b *bases) layers(needed []dockerfile.Base) ([]string, error) {
	var layers []string
	for _, base := range needed {
		if !base.Final {
			continue
		}
		_, digest, _ := strings.Cut(base.Ref, "@")
		hash, err := v1.NewHash(digest)
		if err != nil {
			return nil, err
		}
		img, err := b.inUse.Image(hash)
		if err != nil {
			return nil, fmt.Errorf("base image %s: %w", base.Ref, err)
		}
		manifest, err := img.Manifest()
		if err != nil {
			return nil, fmt.Errorf("base image %s: %w", base.Ref, err)
		}
		for _, layer := range manifest.Layers {
			layers = append(layers, layer.Digest.String())
		}
	}
	return layers, nil
}

// config is what an image brings along, by its reference as pin gave it. It is
// what [dockerfile.Options].Config wants.
func (b *bases) config(ctx context.Context, ref string) (*dockerfile.ImageConfig, error) {
	raw, err := b.imageConfig(ctx, ref)
	if err != nil {
		return nil, err
	}
	file, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return &dockerfile.ImageConfig{Env: file.Config.Env, WorkingDir: file.Config.WorkingDir, User: file.Config.User, OnBuild: file.Config.OnBuild}, nil
}

// imageConfig returns an image's configuration as JSON, by its reference as pin
// gave it. It is what [frontend.Options].Config wants.
func (b *bases) imageConfig(_ context.Context, ref string) ([]byte, error) {
	b.mu.Lock()
	found := slices.Clone(b.found) // others are still asked for
	b.mu.Unlock()
	for _, one := range found {
		if !strings.HasSuffix(ref, "@"+one.digest.String()) {
			continue
		}
		raw, err := b.store.Config(one.digest)
		if err != nil && one.remote != nil {
			return one.remote.RawConfigFile()
		}
		return raw, err
	}
	return nil, fmt.Errorf("%s is not among the images that were asked for", ref)
}
