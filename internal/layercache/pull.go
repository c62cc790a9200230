package layercache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// Registry is what [github.com/slipway-ci/slipway/internal/registry.Client] does
// for a cache.
type Registry interface {
	// Get is an [fs.ErrNotExist] where there is none.
	Get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error)
	Push(ctx context.Context, tag name.Tag, img v1.Image, updates chan<- v1.Update) error
	Put(ctx context.Context, tag name.Tag, manifest remote.Taggable) error
}

// Pull brings the entries of an index that are younger than ttl to where kaniko
// finds them. Their content is what the index says. Those that it returns are
// there, whatever the error says about others.
func Pull(ctx context.Context, registry Registry, index name.Tag, to Folder, ttl time.Duration, now time.Time) ([]Entry, error) {
	if err := os.MkdirAll(string(to), 0o755); err != nil {
		return nil, err
	}
	found, err := registry.Get(ctx, index)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	entries, err := parseIndex(found.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", index, err)
	}
	entries = bounded(entries, ttl, now)
	pulled := make([]bool, len(entries))
	errs := make([]error, len(entries))
	var pulls errgroup.Group
	pulls.SetLimit(4)
	for i, e := range entries {
		pulls.Go(func() error {
			errs[i] = pull(ctx, registry, index.Repository, e, to)
			pulled[i] = errs[i] == nil
			return nil
		})
	}
	_ = pulls.Wait()
	err = errors.Join(errs...)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var there []Entry
	for i, e := range entries {
		if pulled[i] {
			there = append(there, e)
		}
	}
	return there, err
}

func pull(ctx context.Context, registry Registry, repository name.Repository, e Entry, to Folder) error {
	found, err := registry.Get(ctx, repository.Digest(e.Digest.String()))
	if err != nil {
		return err
	}
	img, err := found.Image()
	if err != nil {
		return fmt.Errorf("layer %s: %w", e.Digest, err)
	}
	if _, err := bytesOf(img); err != nil {
		return fmt.Errorf("layer %s: %w", e.Digest, err)
	}
	temporary := filepath.Join(string(to), "."+e.Key)
	defer os.RemoveAll(temporary)
	entry, err := layout.Write(temporary, empty.Index)
	if err != nil {
		return err
	}
	if err := entry.AppendImage(img); err != nil {
		return fmt.Errorf("layer %s: %w", e.Digest, err)
	}
	return os.Rename(temporary, to.entry(e.Key))
}
