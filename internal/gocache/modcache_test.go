package gocache_test

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/slipway-ci/slipway/internal/gocache"
)

func TestAModuleThatGoSumDoesNotKnow(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held, err := gocache.OpenHeld(volume, gocache.GoMod, 0)
	if err != nil {
		t.Fatal(err)
	}
	id, other := module.Version{Path: "example.com/lib", Version: "v1.0.0"}, module.Version{Path: "example.com/other", Version: "v1.0.0"}
	sum := download(t, held.Path(), id)
	download(t, held.Path(), other)
	const wrong = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

	if different, _ := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: sum}, {Version: other}, {Version: module.Version{Path: "example.com/absent", Version: "v1.0.0"}, Files: wrong}}); len(different) > 0 {
		t.Errorf("different are %v", different)
	}
	another, err := gocache.OpenHeld(volume, gocache.GoMod, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, sum := range map[string]gocache.Sum{"files": {Version: id, Files: wrong}, "go.mod": {Version: id, Files: sum, Mod: wrong}} {
		if different, removed := gocache.UseModules(held, []gocache.Sum{sum}); len(different) != 1 || removed || !exists(filepath.Join(held.Path(), id.String())) {
			t.Errorf("%s: different are %v, removed %t, under another build", name, different, removed)
		}
	}
	if err := another.Release(); err != nil {
		t.Fatal(err)
	}
	if different, removed := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: wrong}}); len(different) != 1 || !removed {
		t.Errorf("different are %v, removed %t", different, removed)
	}
	for _, gone := range []string{id.String(), "cache/download/example.com/lib/@v/v1.0.0.zip", "cache/download/example.com/lib/@v/v1.0.0.ziphash", "cache/download/example.com/lib/@v/v1.0.0.mod"} {
		if exists(filepath.Join(held.Path(), gone)) {
			t.Errorf("%s is still there", gone)
		}
	}
	if !exists(filepath.Join(held.Path(), other.String())) {
		t.Error("another module is gone")
	}
	tidy(t, volume, 0)
	if !exists(held.Path()) {
		t.Error("the cache is not held any more")
	}
}

// Go changes no times in GOMODCACHE: that a go.sum names a version is its use.
func TestModulesGoByTheirLastUse(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held, err := gocache.OpenHeld(volume, gocache.GoMod, 0)
	if err != nil {
		t.Fatal(err)
	}
	used, unused := module.Version{Path: "example.com/used", Version: "v1.0.0"}, module.Version{Path: "example.com/unused", Version: "v1.0.0"}
	for _, id := range []module.Version{used, unused} {
		download(t, held.Path(), id)
		for _, kind := range []string{".info", ".mod", ".zip", ".ziphash"} {
			aged(t, filepath.Join(held.Path(), "cache/download", id.Path, "@v", id.Version+kind), 48*time.Hour)
		}
	}
	gocache.UseModules(held, []gocache.Sum{{Version: used}})
	tidy(t, volume, 70_000) // of which each takes about 37,000
	next, err := gocache.OpenHeld(volume, gocache.GoMod, 0)
	if err != nil {
		t.Fatal(err)
	}
	if next.Path() == held.Path() {
		t.Fatal("nothing was trimmed")
	}
	for file, want := range map[string]bool{
		"example.com/used@v1.0.0/sub/sub.go": true, "cache/download/example.com/used/@v/v1.0.0.ziphash": true,
		"example.com/unused@v1.0.0": false, "cache/download/example.com/unused/@v/v1.0.0.zip": false,
	} {
		if exists(filepath.Join(next.Path(), file)) != want {
			t.Errorf("%s is there: %t, want %t", file, !want, want)
		}
	}
	if !exists(filepath.Join(held.Path(), unused.String())) {
		t.Error("a module was removed under a build")
	}
}
