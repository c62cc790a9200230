package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Put makes tag name a manifest whose parts its repository has already.
func (c *Client) Put(ctx context.Context, tag name.Tag, manifest remote.Taggable) error {
	ref, err := c.reference(tag.RegistryStr(), tag.RepositoryStr(), tag)
	if err != nil {
		return err
	}
	if err := remote.Put(ref, manifest, c.remoteOptions(ctx, ref)...); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return explain(ref, "push", err)
	}
	return nil
}

// Get is what ref names, asked of its own registry and of no mirror. The error
// is an [fs.ErrNotExist] if it names nothing.
func (c *Client) Get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	ref, err := c.reference(ref.Context().RegistryStr(), ref.Context().RepositoryStr(), ref)
	if err != nil {
		return nil, err
	}
	var found *remote.Descriptor
	err = c.pull(ctx, ref, func(options ...remote.Option) (err error) {
		found, err = remote.Get(ref, options...)
		return err
	})
	switch {
	case err == nil:
		return found, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case absent(err):
		return nil, fmt.Errorf("%w: %s", fs.ErrNotExist, ref)
	default:
		return nil, explain(ref, "pull", err)
	}
}

func absent(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

// ErrTaken is what an error of [Client.MustBeFree] is where it is known that a
// tag names another image; it is an [ErrRejected] too.
var ErrTaken = errors.New("the tag names another image")

type taken struct{ rejection }

func (t taken) Is(target error) bool { return target == ErrTaken || t.rejection.Is(target) }

// Names is the digest of what a tag names, asked of its own registry and of no
// mirror. The error is an [fs.ErrNotExist] if it names nothing.
func (c *Client) Names(ctx context.Context, tag name.Tag) (v1.Hash, error) {
	ref, err := c.reference(tag.RegistryStr(), tag.RepositoryStr(), tag)
	if err != nil {
		return v1.Hash{}, err
	}
	var found *v1.Descriptor
	err = c.pull(ctx, ref, func(options ...remote.Option) (err error) {
		found, err = remote.Head(ref, options...)
		return err
	})
	switch {
	case err == nil:
		return found.Digest, nil
	case ctx.Err() != nil:
		return v1.Hash{}, context.Cause(ctx)
	case absent(err):
		return v1.Hash{}, fmt.Errorf("%w: %s", fs.ErrNotExist, ref)
	default:
		return v1.Hash{}, explain(ref, "pull", err)
	}
}

// MustBeFree is an error if one of the tags names an image other than that of
// digest; nil is none yet, so that each image is another. Registries have no
// way to put a tag only if it is free: another push may come between. That a
// tag is taken is an [ErrTaken].
func (c *Client) MustBeFree(ctx context.Context, tags []name.Tag, digest *v1.Hash) error {
	for _, tag := range tags {
		found, err := c.Names(ctx, tag)
		switch {
		case err == nil && (digest == nil || found != *digest):
			return taken{rejection(fmt.Sprintf("param immutable-tags: %s is %s already, and must not move; give the image another tag", tag, found))}
		case err == nil, errors.Is(err, fs.ErrNotExist):
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			return fmt.Errorf("find out whether %s is taken (param immutable-tags): %w", tag, err)
		}
	}
	return nil
}
