package gocache_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// A module of which there is only a part fails each build that uses it, if
// nobody looks.
func TestHalfAModuleIsFoundAfterABuildThatDidNotEndWell(t *testing.T) {
	t.Parallel()
	const app, other = "registry.example.com/app", "registry.example.com/other"
	type build struct {
		repository string
		killed     bool
		failed     bool
	}
	for name, c := range map[string]struct {
		before []build
		age    time.Duration // of the module
		named  bool          // by the go.sum of the build that comes now
		found  bool
	}{
		"nothing happened":                    {nil, 0, true, false},
		"it succeeded":                        {[]build{{repository: app}}, 0, true, false},
		"it failed":                           {[]build{{repository: app, failed: true}}, 48 * time.Hour, true, true},
		"it failed, and a good one came next": {[]build{{repository: app, failed: true}, {repository: other}}, 48 * time.Hour, true, true},
		"another repository's failed":         {[]build{{repository: other, failed: true}}, 48 * time.Hour, true, false},
		"it failed, of another module":        {[]build{{repository: app, failed: true}}, 48 * time.Hour, false, false},
		"another repository's was killed":     {[]build{{repository: other, killed: true}}, time.Minute, false, true},
		"killed long after it was written":    {[]build{{repository: other, killed: true}}, time.Hour, true, false},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			held := openModules(t, t.TempDir())
			id := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
			sum := download(t, held.Path(), id)
			file := filepath.Join(held.Path(), id.String(), "lib.go")
			if err := os.Truncate(file, 1); err != nil {
				t.Fatal(err)
			}
			aged(t, filepath.Join(held.Path(), id.String()), c.age)
			aged(t, filepath.Join(held.Path(), "cache/download", id.Path, "@v", id.Version+".ziphash"), c.age)
			for _, before := range c.before {
				mark, err := gocache.MarkUnfinished(held.Path(), before.repository)
				if err != nil {
					t.Fatal(err)
				}
				if before.killed {
					mark.Abandon()
				} else if err := mark.End(before.failed); err != nil {
					t.Fatal(err)
				}
			}
			running, err := gocache.MarkUnfinished(held.Path(), other)
			if err != nil {
				t.Fatal(err)
			}
			var sums []gocache.Sum
			if c.named {
				sums = []gocache.Sum{{Version: id, Files: sum}}
			}
			damages, removed := gocache.UseModules(held, sums, app)
			if c.found != (len(damages) == 1) || removed != c.found || exists(file) == c.found {
				t.Errorf("damages are %v, removed %t", damages, removed)
			}
			if damages, _ := gocache.UseModules(held, sums, app); len(damages) > 0 {
				t.Errorf("the next time damages are %v", damages)
			}
			if err := running.End(false); err != nil {
				t.Errorf("the mark of a running build: %v", err)
			}
			if left, err := filepath.Glob(filepath.Join(held.Path(), ".*")); err != nil || len(left) > 1 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}
