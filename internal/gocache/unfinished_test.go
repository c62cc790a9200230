package gocache_test

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sys/unix"

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

// The next generation has what the marks are about.
func TestDoubtsComeAlongToTheNextGeneration(t *testing.T) {
	t.Parallel()
	const app = "registry.example.com/app"
	for name, end := range map[string]func(*gocache.Unfinished) error{
		"failed": func(mark *gocache.Unfinished) error { return mark.End(true) },
		"killed": func(mark *gocache.Unfinished) error { mark.Abandon(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			volume := t.TempDir()
			held := openModules(t, volume)
			id, old := module.Version{Path: "example.com/lib", Version: "v1.0.0"}, module.Version{Path: "example.com/old", Version: "v1.0.0"}
			sum := download(t, held.Path(), id)
			download(t, held.Path(), old)
			for _, kind := range []string{".info", ".mod", ".zip", ".ziphash"} {
				aged(t, filepath.Join(held.Path(), "cache/download", old.Path, "@v", old.Version+kind), 48*time.Hour)
			}
			truncate(t, filepath.Join(held.Path(), id.String(), "lib.go"))
			mark, err := gocache.MarkUnfinished(held.Path(), app)
			if err := errors.Join(err, end(mark)); err != nil {
				t.Fatal(err)
			}
			tidy(t, volume, 70_000) // of which each takes about 37,000
			next := openModules(t, volume)
			if next.Path() == held.Path() {
				t.Fatal("nothing was trimmed")
			}
			if damages, removed := gocache.UseModules(next, []gocache.Sum{{Version: id, Files: sum}}, app); len(damages) != 1 || !removed {
				t.Errorf("damages are %v, removed %t", damages, removed)
			}
		})
	}
}

// Without its lock a mark is a killed build's, for whoever looks at that moment.
func TestAMarkHasItsLockFromTheBeginning(t *testing.T) {
	goMod := t.TempDir()
	marks := func() []string {
		marks, err := filepath.Glob(filepath.Join(goMod, ".unfinished-*"))
		if err != nil {
			t.Fatal(err)
		}
		return marks
	}
	for _, problem := range []error{nil, unix.ENOLCK} {
		restore := gocache.SetFlock(func(fd, how int) error {
			if found := marks(); len(found) > 0 {
				t.Errorf("before its lock there is %q", found)
			}
			return cmp.Or(problem, unix.Flock(fd, how))
		})
		mark, err := gocache.MarkUnfinished(goMod, "app")
		restore()
		if !errors.Is(err, problem) || len(marks()) == 1 != (problem == nil) {
			t.Errorf("there is %q, %v", marks(), err)
		}
		if err := mark.End(false); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(goMod); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	}
}
