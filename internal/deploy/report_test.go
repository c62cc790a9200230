package deploy

import (
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/step"
)

// TestDigests: as many digests as a result has room for, and how many are left.
func TestDigests(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("a", 64)
	for n, want := range map[int]string{
		0:  "",
		2:  digest + " " + digest,
		14: strings.TrimSpace(strings.Repeat(digest+" ", 14)),
		30: strings.Repeat(digest+" ", 14) + "16 more",
	} {
		images := make([]image, n)
		for i := range images {
			images[i].digest = digest
		}
		if got := digests(images); got != want || len(got) > step.MaxResult {
			t.Errorf("%d images: %q, want %q", n, got, want)
		}
	}
}
