package layercache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Made is what a build made of its cache.
type Made struct {
	New, Kept int // entries
	Bytes     int64
}

// ErrNotKept is a layer's that is not to be an entry.
var ErrNotKept = errors.New("not to be kept")

// Push sends the entries that are in from and were not pulled, and then the
// index: of them, and of the pulled ones that used says the build looked up; nil
// is not known, which keeps all. read reads a layout of which nothing is to be
// believed, and says with [ErrNotKept] that it is not to be an entry. Of two builds
// at a time, the one that ends later has its index.
func Push(ctx context.Context, registry Registry, index name.Tag, from Folder, pulled []Entry, used map[string]bool, read func(dir string) (v1.Image, error), ttl time.Duration, now time.Time) (Made, error) {
	keys, err := from.keys()
	if err != nil {
		return Made{}, err
	}
	var entries []Entry
	was := map[string]bool{}
	for _, e := range pulled {
		was[e.Key] = true
		if used == nil || used[e.Key] {
			entries = append(entries, e)
		}
	}
	made := Made{Kept: len(entries)}
	var errs []error
	for _, key := range keys {
		if was[key] {
			continue
		}
		e, err := push(ctx, registry, index.Repository, key, from, read, now)
		if ctx.Err() != nil {
			return made, context.Cause(ctx)
		}
		if errors.Is(err, ErrNotKept) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("layer %.12s: %w", key, err))
			continue
		}
		made.New++
		made.Bytes += e.Bytes
		entries = append(entries, e)
	}
	manifest, err := newIndex(bounded(entries, ttl, now))
	if err == nil {
		err = registry.Put(ctx, index, manifest)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return made, errors.Join(append(errs, err)...)
}

func push(ctx context.Context, registry Registry, repository name.Repository, key string, from Folder, read func(string) (v1.Image, error), now time.Time) (Entry, error) {
	img, err := read(from.entry(key))
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Key: key, Created: now}
	if e.Bytes, err = bytesOf(img); err != nil {
		return Entry{}, err
	}
	if e.Digest, err = img.Digest(); err != nil {
		return Entry{}, err
	}
	if e.Size, err = img.Size(); err != nil {
		return Entry{}, err
	}
	return e, registry.Push(ctx, repository.Tag(key), img, nil)
}
