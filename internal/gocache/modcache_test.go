package gocache_test

import (
	"errors"
	"fmt"
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
	if different, _ := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: sum}, {Version: other}, {Version: module.Version{Path: "example.com/absent", Version: "v1.0.0"}, Files: otherSum}}, ""); len(different) > 0 {
		t.Errorf("different are %v", different)
	}
	another := openModules(t, volume)
	for name, sum := range map[string]gocache.Sum{"files": {Version: id, Files: otherSum}, "go.mod": {Version: id, Files: sum, Mod: otherSum}} {
		if different, removed := gocache.UseModules(held, []gocache.Sum{sum}, ""); len(different) != 1 || removed || !exists(filepath.Join(held.Path(), id.String())) {
			t.Errorf("%s: different are %v, removed %t, under another build", name, different, removed)
		}
	}
	if err := another.Release(); err != nil {
		t.Fatal(err)
	}
	if different, removed := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: otherSum}}, ""); len(different) != 1 || !removed {
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

// A removal may be cut off anywhere: Go does not believe what is left, or the
// next build finds it.
func TestARemovalThatIsCutOff(t *testing.T) {
	t.Parallel()
	id := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
	at := "cache/download/example.com/lib/@v/v1.0.0"
	for name, sumOf := range map[string]func(t *testing.T, goMod, sum string) string{
		"rotten": func(t *testing.T, goMod, sum string) string {
			overwrite(t, filepath.Join(goMod, at+".zip"))
			overwrite(t, filepath.Join(goMod, id.String(), "lib.go"))
			return sum
		},
		"tagged again": func(*testing.T, string, string) string { return otherSum },
	} {
		for n := range 16 {
			t.Run(fmt.Sprintf("%s, after %d", name, n), func(t *testing.T) {
				t.Parallel()
				held := openModules(t, t.TempDir())
				next := held.Path() + ".next"
				sumOf(t, next, download(t, next, id))
				sum := sumOf(t, held.Path(), download(t, held.Path(), id))
				parts, err := gocache.Parts(held.Path(), id)
				if err != nil || len(parts) != 15 {
					t.Fatalf("%q, %v", parts, err)
				}
				for _, part := range parts[:n] {
					if err := os.RemoveAll(part); err != nil {
						t.Fatal(err)
					}
				}
				for _, root := range []string{held.Path(), next} {
					if !exists(filepath.Join(root, at+".ziphash")) && (exists(filepath.Join(root, at+".zip")) || exists(filepath.Join(root, id.String()))) {
						t.Errorf("%s has it without its hash", root)
					}
				}
				mark, err := gocache.MarkUnfinished(held.Path(), "app")
				if err := errors.Join(err, mark.End(true)); err != nil {
					t.Fatal(err)
				}
				damages, _ := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: sum}}, "app")
				for _, root := range []string{held.Path(), next} {
					for _, left := range []string{id.String(), at + ".zip"} {
						if exists(filepath.Join(root, left)) {
							t.Errorf("%s is left in %s; damages are %v", left, root, damages)
						}
					}
				}
			})
		}
	}
}

const otherSum = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// Go makes the hash of an archive that is there, and takes the files for its.
func TestAModuleWithoutItsHash(t *testing.T) {
	t.Parallel()
	const id, zip = "example.com/lib@v1.0.0", "cache/download/example.com/lib/@v/v1.0.0.zip"
	for name, tc := range map[string]struct {
		damage         func(t *testing.T, goMod string)
		tagged         bool // again
		found, checked bool // by the build, by check-cache
	}{
		"its archive":        {func(t *testing.T, goMod string) { removeAll(t, filepath.Join(goMod, id)) }, false, false, false},
		"another's archive":  {func(t *testing.T, goMod string) { removeAll(t, filepath.Join(goMod, id)) }, true, true, false},
		"both":               {func(*testing.T, string) {}, false, false, false},
		"files":              {func(t *testing.T, goMod string) { remove(t, filepath.Join(goMod, zip)) }, false, true, true},
		"part of an archive": {func(t *testing.T, goMod string) { truncate(t, filepath.Join(goMod, zip)) }, false, true, true},
		"both, rotten files": {func(t *testing.T, goMod string) { overwrite(t, filepath.Join(goMod, id, "lib.go")) }, false, true, true},
		"files in the making": {func(t *testing.T, goMod string) {
			remove(t, filepath.Join(goMod, zip))
			writeFile(t, filepath.Join(goMod, "cache/download/example.com/lib/@v/v1.0.0.partial"), "")
		}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			volume := t.TempDir()
			held := openModules(t, volume)
			version := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
			sum := download(t, held.Path(), version)
			if tc.tagged {
				sum = otherSum
			}
			remove(t, filepath.Join(held.Path(), zip+"hash"))
			tc.damage(t, held.Path())
			another := openModules(t, volume)
			if damages, removed := gocache.UseModules(held, []gocache.Sum{{Version: version, Files: sum}}, ""); (len(damages) > 0) != tc.found || removed {
				t.Errorf("a build finds %v, removed %t", damages, removed)
			}
			if err := another.Release(); err != nil {
				t.Fatal(err)
			}
			checked := 0
			if _, err := gocache.CheckAll(t.Context(), volume, func(gocache.Damage) { checked++ }); err != nil || (checked > 0) != tc.checked {
				t.Errorf("check-cache finds %d, %v", checked, err)
			}
		})
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// Between two processes of a build its modules are its own too.
func TestAModuleUnderALeaseStays(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held, another := openModules(t, volume), openModules(t, volume)
	id := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
	download(t, held.Path(), id)
	_, err := another.Lease()
	if err := errors.Join(err, another.Release()); err != nil {
		t.Fatal(err)
	}
	damages, removed := gocache.UseModules(held, []gocache.Sum{{Version: id, Files: otherSum}}, "")
	if len(damages) != 1 || removed || !exists(filepath.Join(held.Path(), id.String(), "lib.go")) {
		t.Errorf("damages are %v, removed %t", damages, removed)
	}
}

// What is taken away while the next generation is made is not in it, and is no
// reason to give up the rest.
func TestAModuleThatGoesWhileItIsCarried(t *testing.T) {
	id := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
	for name, when := range map[string]string{"with its first file": "lib.go", "with its last file": "sub/sub.go"} {
		t.Run(name, func(t *testing.T) {
			volume := t.TempDir()
			held := openModules(t, volume)
			stays, old := module.Version{Path: "example.com/stays", Version: "v1.0.0"}, module.Version{Path: "example.com/old", Version: "v1.0.0"}
			for _, id := range []module.Version{id, stays, old} {
				download(t, held.Path(), id)
			}
			for _, kind := range []string{".info", ".mod", ".zip", ".ziphash"} {
				aged(t, filepath.Join(held.Path(), "cache/download", old.Path, "@v", old.Version+kind), 48*time.Hour)
			}
			damaged := filepath.Join(held.Path(), id.String(), "go.mod")
			overwrite(t, damaged)
			found := 0
			defer gocache.SetHardLink(func(from, to string) error {
				err := os.Link(from, to)
				if from == filepath.Join(held.Path(), id.String(), when) && found == 0 {
					_, checkErr := gocache.CheckAll(t.Context(), volume, func(gocache.Damage) { found++ })
					err = errors.Join(err, checkErr)
				}
				return err
			})()
			tidy(t, volume, 110_000) // each takes about 37,000
			next := openModules(t, volume)
			if next.Path() == held.Path() || found != 1 {
				t.Fatalf("it is %s, %d are damaged", next.Path(), found)
			}
			for _, gone := range []string{id.String(), "cache/download/example.com/lib/@v/v1.0.0.zip", "cache/download/example.com/lib/@v/v1.0.0.ziphash"} {
				if exists(filepath.Join(next.Path(), gone)) {
					t.Errorf("%s is there", gone)
				}
			}
			if !exists(filepath.Join(next.Path(), stays.String(), "sub/sub.go")) {
				t.Error("another module is gone")
			}
		})
	}
}
