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
	found, err := remote.Get(ref, c.remoteOptions(ctx, ref)...)
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

// MustBeFree is an error if one of the tags names an image other than that of
// digest; nil is none yet, so that each image is another. Registries have no
// way to put a tag only if it is free: another push may come between. That a
// tag is taken is an [ErrRejected].
func (c *Client) MustBeFree(ctx context.Context, tags []name.Tag, digest *v1.Hash) error {
	for _, tag := range tags {
		ref, err := c.reference(tag.RegistryStr(), tag.RepositoryStr(), tag)
		if err != nil {
			return err
		}
		found, err := remote.Head(ref, c.remoteOptions(ctx, ref)...)
		switch {
		case err == nil && (digest == nil || found.Digest != *digest):
			return rejection(fmt.Sprintf("param immutable-tags: %s is %s already, and must not move; give the image another tag", tag, found.Digest))
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case absent(err):
		default:
			return fmt.Errorf("find out whether %s is taken (param immutable-tags): %w", tag, explain(ref, "pull", err))
		}
	}
	return nil
}
