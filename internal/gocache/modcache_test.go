package gocache_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/slipway-ci/slipway/internal/gocache"
)

func TestAModuleThatGoSumDoesNotKnow(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openModules(t, volume)
	id, other := module.Version{Path: "example.com/lib", Version: "v1.0.0"}, module.Version{Path: "example.com/other", Version: "v1.0.0"}
	sum := download(t, held.Path(), id)
	download(t, held.Path(), other)
	const wrong = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

	if different, _ := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: sum}, {Version: other}, {Version: module.Version{Path: "example.com/absent", Version: "v1.0.0"}, Files: wrong}}, ""); len(different) > 0 {
		t.Errorf("different are %v", different)
	}
	another := openModules(t, volume)
	for name, sum := range map[string]gocache.Sum{"files": {Version: id, Files: wrong}, "go.mod": {Version: id, Files: sum, Mod: wrong}} {
		if different, removed := gocache.UseModules(held, []gocache.Sum{sum}, ""); len(different) != 1 || removed || !exists(filepath.Join(held.Path(), id.String())) {
			t.Errorf("%s: different are %v, removed %t, under another build", name, different, removed)
		}
	}
	if err := another.Release(); err != nil {
		t.Fatal(err)
	}
	if different, removed := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: wrong}}, ""); len(different) != 1 || !removed {
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
	held := openModules(t, volume)
	used, unused := module.Version{Path: "example.com/used", Version: "v1.0.0"}, module.Version{Path: "example.com/unused", Version: "v1.0.0"}
	for _, id := range []module.Version{used, unused} {
		download(t, held.Path(), id)
		for _, kind := range []string{".info", ".mod", ".zip", ".ziphash"} {
			aged(t, filepath.Join(held.Path(), "cache/download", id.Path, "@v", id.Version+kind), 48*time.Hour)
		}
	}
	gocache.UseModules(held, []gocache.Sum{{Version: used}}, "")
	tidy(t, volume, 70_000) // of which each takes about 37,000
	next := openModules(t, volume)
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

// What a build without a proxy has cloned counts, and no generation keeps it.
func TestClonesGoFirst(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openModules(t, volume)
	id := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
	download(t, held.Path(), id)
	pack := filepath.Join(held.Path(), "cache/vcs/0123/objects/pack")
	if err := errors.Join(os.MkdirAll(filepath.Dir(pack), 0o755), os.WriteFile(pack, make([]byte, 1<<20), 0o644)); err != nil {
		t.Fatal(err)
	}
	if said := tidy(t, volume, 1<<20); !strings.Contains(said, "go-mod 1.0") || !strings.HasSuffix(said, "; removing 1.061MB") {
		t.Errorf("the log says %q", said)
	}
	next := openModules(t, volume)
	if !exists(filepath.Join(next.Path(), id.String())) || exists(filepath.Join(next.Path(), "cache/vcs")) {
		t.Error("not the clones went, but the module")
	}
}

// Where no next generation can be made, as on a volume without any room, Go's
// caches go as a whole: they are in their place, or they are not.
func TestCachesThatCannotBeKeptInPart(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openModules(t, volume)
	id, old := module.Version{Path: "example.com/lib", Version: "v1.0.0"}, module.Version{Path: "example.com/old", Version: "v1.0.0"}
	download(t, held.Path(), id)
	download(t, held.Path(), old)
	for _, kind := range []string{".info", ".mod", ".zip", ".ziphash"} {
		aged(t, filepath.Join(held.Path(), "cache/download", old.Path, "@v", old.Version+kind), 48*time.Hour)
	}
	inTheWay := filepath.Join(volume, "go-mod.next", "cache")
	if err := errors.Join(os.Mkdir(filepath.Dir(inTheWay), 0o777), os.WriteFile(inTheWay, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := gocache.Tidy(gocache.Budget{Volume: volume, Size: 70_000}).End(time.Minute); err == nil || !exists(filepath.Join(held.Path(), id.String(), "lib.go")) {
		t.Errorf("under a build that uses it: %v", err)
	}
	if err := errors.Join(held.Release(), os.MkdirAll(filepath.Dir(inTheWay), 0o777), os.WriteFile(inTheWay, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := gocache.Tidy(gocache.Budget{Volume: volume, Size: 70_000}).End(time.Minute); err == nil || exists(held.Path()) {
		t.Errorf("it is still there: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(volume, "trash")); err != nil || len(left) > 0 {
		t.Errorf("the trash has %v, %v", left, err)
	}
}
