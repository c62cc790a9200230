package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/tag"
)

// pushAll pushes the image to all destinations. Within a repository its layers
// are sent once, and each tag is put after all of the image is there. there is
// called once the first destination has it: a push that fails later is tried
// again with this very image, where tags must not move.
func pushAll(ctx context.Context, client *registry.Client, all []tag.Destination, immutable []string, img v1.Image, digest v1.Hash, stderr io.Writer, there func()) error {
	fixed, err := tag.Immutable(all, immutable)
	if err != nil {
		return step.BadInput(fmt.Errorf("param immutable-tags: %w", err))
	}
	if err := client.MustBeFree(ctx, fixed, &digest); err != nil {
		return failed(ctx, all[0].URL, err)
	}
	var has []name.Repository
	for i, one := range all {
		fmt.Fprintf(stderr, "push %s@%s\n", one.URL, digest)
		if slices.Contains(has, one.Tag.Repository) {
			err = client.Put(ctx, one.Tag, img)
		} else {
			err = pushTold(ctx, client, one.Tag, img, stderr)
		}
		if err != nil {
			return failed(ctx, one.URL, err)
		}
		if i == 0 {
			there()
		}
		has = append(has, one.Tag.Repository)
	}
	return nil
}

// failed says what could not be pushed.
func failed(ctx context.Context, url string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, registry.ErrRejected) {
		err = step.BadInput(err)
	}
	return fmt.Errorf("push %s: %w", url, err)
}
