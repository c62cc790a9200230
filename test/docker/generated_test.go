package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/slipway-ci/slipway/test/docker/generate"
	"github.com/slipway-ci/slipway/test/docker/oracle"
)

var seeds = flag.String("seeds", "1-20", "the seeds of TestGenerated, FIRST-LAST")

// maxRefused is how many of 100 generated cases may be refused, beside one.
const maxRefused = 3

// TestGenerated builds generated cases with both.
func TestGenerated(t *testing.T) {
	var first, last uint64
	if n, err := fmt.Sscanf(*seeds, "%d-%d", &first, &last); n != 2 || err != nil || last < first {
		t.Fatalf("-seeds=%s: it is a range such as 1-20", *seeds)
	}
	o := startedBuilders(t)
	work := t.TempDir()
	var refused atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed <= last; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				c := generate.New(seed)
				result, err := check(t.Context(), o, c, filepath.Join(work, strconv.FormatUint(seed, 10)))
				if err != nil {
					t.Fatal(err)
				}
				switch result.Verdict {
				case oracle.Refused:
					refused.Add(1)
					t.Log(told(seed, result))
				case oracle.Differs:
					t.Errorf("%s\n%s\nfor the smallest case that differs so:\n    go run ./test/docker generated -from %d -n 1 -shrink", told(seed, result), shortened(c), seed)
				}
			})
		}
	})
	if n := last - first + 1; uint64(refused.Load()) > 1+n*maxRefused/100 {
		t.Errorf("%d of %d cases are refused", refused.Load(), n)
	}
}
