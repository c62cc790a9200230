package prepare

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// A run that is cancelled while a tag waits for the digest of the inputs has no
// bad input.
func TestCancelledWhileTheInputsAreHashed(t *testing.T) {
	t.Parallel()
	c := &Config{Image: "registry.example/app"}
	c.Tags = []string{"{{.INPUT_DIGEST}}"}
	n, err := newNaming(c, Host{})
	if err != nil {
		t.Fatal(err)
	}
	ended := errors.New("terminated")
	ctx, cancel := context.WithCancelCause(t.Context())
	n.source.InputDigest = func() (string, error) {
		cancel(ended)
		return "", ctx.Err()
	}
	err = n.decide(ctx, nil, &unchanged{}, &plan.Plan{}, &log{out: io.Discard})
	if !errors.Is(err, ended) || step.ExitCode(err) != step.ExitFailed {
		t.Errorf("%v, exit code %d", err, step.ExitCode(err))
	}
}
