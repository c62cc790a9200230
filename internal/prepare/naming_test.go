package prepare

import (
	"context"
	"errors"
	"io"
	"strings"
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

// All results of the step push together have a limit, not only each alone.
func TestNamesThatAreTooLongTogether(t *testing.T) {
	t.Parallel()
	for length, want := range map[int]string{
		150: "",
		230: "params tags and destinations: the image's names have 1076 bytes in the results image-urls, IMAGE_URL, IMAGE_DIGEST and deploy-image, over the 1024 that a step may write; use fewer",
	} {
		c := &Config{Image: "registry.example/" + strings.Repeat("a", length-len("registry.example/:v1")) + ":v1", Artifact: "name=app"}
		c.Destinations = []string{c.Image + ".2"}
		n, err := newNaming(c, Host{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := n.decide(t.Context(), nil, &unchanged{}, &plan.Plan{}, &log{out: io.Discard}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("of %d bytes: got %q, want %q", length, got, want)
		}
	}
}
