package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-ci/slipway/internal/inputs"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/tag"
)

// recordFor bounds the time for keeping a record. The image is pushed by then.
const recordFor = 30 * time.Second

// existing is the image that the first destination's repository has.
func existing(ctx context.Context, client *registry.Client, first tag.Destination, digest string) (v1.Image, error) {
	img, err := client.Existing(ctx, first.Tag.Digest(digest))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: it was there when the step prepare looked; run the task again, and it is built", err)
	}
	if err != nil {
		return nil, failed(ctx, first.URL, err)
	}
	return img, nil
}

// record keeps what an image was built from, where later builds look for it and
// once more as the last. The image is there, so a problem is told and no more.
func record(ctx context.Context, client *registry.Client, to *plan.Record, digest, run string, stderr io.Writer) {
	ctx, cancel := context.WithTimeoutCause(ctx, recordFor, fmt.Errorf("the registry took over %s", recordFor))
	defer cancel()
	if err := put(ctx, client, to, digest, run); err != nil {
		fmt.Fprintf(stderr, "the next build from the same inputs will not know of this one: %v\n", err)
	}
}

func put(ctx context.Context, client *registry.Client, to *plan.Record, digest, run string) error {
	repository, err := name.NewRepository(to.Repository)
	if err != nil {
		return err
	}
	r, err := inputs.Take(to.File)
	if err != nil {
		return err
	}
	r.Image, r.Built, r.By = digest, time.Now().UTC().Truncate(time.Second), run
	content, err := r.Encode()
	if err != nil {
		return err
	}
	// The last first: without it nothing is amiss.
	for _, tag := range []name.Tag{repository.Tag(to.Last), inputs.Tag(repository, r.Inputs)} {
		// Of two builds at the same time the later has the tag, and both are
		// right. What is somebody else's is left alone.
		if _, err = client.Artifact(ctx, tag, inputs.MediaType); err == nil || errors.Is(err, fs.ErrNotExist) {
			err = client.PutArtifact(ctx, tag, inputs.MediaType, content)
		}
	}
	return err
}
