package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/mod/module"

	"github.com/slipway-ci/slipway/internal/gocache"
)

const (
	builds       = 300
	budget       = 160 << 20 // the first build takes half of it
	assetBytes   = 1 << 20   // that each commit changes, so that its package is another
	libraryBytes = 4 << 20   // of each version of a library
	libraryEvery = 10        // builds, from a version to the next
	twoAtOnce    = 7         // every how many builds another one runs at the same time
	between      = 20 * time.Minute
)

// A volume on which commits are built that each change something stays within
// its budget, and no build fails: neither for what was removed before it nor
// for what is removed while it runs.
func TestManyCommitsOnASmallVolume(t *testing.T) {
	site := newCommits(t)
	var most, added, written int64
	t.Logf("build  volume    written in all  generation")
	for n := range builds {
		before := site.bytes(t)
		if n%libraryEvery == 0 {
			site.newLibrary(t, n/libraryEvery)
		}
		var others chan error
		if n%twoAtOnce == 0 {
			others = make(chan error, 1)
			go func() { others <- site.build(t.Context(), site.commit(t, "other", n)) }()
		}
		if err := site.build(t.Context(), site.commit(t, "app", n)); err != nil {
			t.Fatalf("build %d: %v", n, err)
		}
		if others != nil {
			if err := <-others; err != nil {
				t.Fatalf("build %d, the other one: %v", n, err)
			}
		}
		now := site.bytes(t)
		most, written = max(most, now), written+max(now-before, 0)
		if n > 0 { // that one fills the empty caches
			added = max(added, now-before)
		}
		if now > budget+added {
			t.Fatalf("after build %d the volume has %s, the budget is %s, and no build has added more than %s",
				n, units.HumanSize(float64(now)), units.HumanSize(float64(budget)), units.HumanSize(float64(added)))
		}
		if n%20 == 0 || n == builds-1 {
			t.Logf("%5d  %8s  %14s  %s", n+1, units.HumanSize(float64(now)), units.HumanSize(float64(written)), filepath.Base(site.goBuild(t)))
		}
		site.pass(t, between)
	}
	t.Logf("at most %s, with a budget of %s; a build has added %s at most", units.HumanSize(float64(most)), units.HumanSize(float64(budget)), units.HumanSize(float64(added)))
	if written < 2*budget {
		t.Errorf("all builds together wrote %s: the budget was never at stake", units.HumanSize(float64(written)))
	}
	if site.goBuild(t) == filepath.Join(site.volume, "go-build") {
		t.Error("nothing was ever trimmed")
	}
}

// commits is an app under development, and the volume that it is built on.
type commits struct {
	root    string
	volume  string
	proxy   string // a folder, as GOPROXY=file:// reads it
	sum     string // go.sum of the newest version of the library
	version string
}

func newCommits(t *testing.T) *commits {
	t.Helper()
	c := &commits{root: t.TempDir()}
	c.volume, c.proxy = filepath.Join(c.root, "volume"), filepath.Join(c.root, "proxy")
	if err := os.Mkdir(c.volume, 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *commits) write(t *testing.T, file string, content []byte) {
	t.Helper()
	path := filepath.Join(c.root, file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func random(size int) []byte {
	content := make([]byte, size)
	_, _ = rand.Read(content) // never fails
	return content
}

// newLibrary publishes a version of a library.
func (c *commits) newLibrary(t *testing.T, n int) {
	t.Helper()
	c.version = fmt.Sprintf("v1.0.%d", n)
	c.sum = publish(t, c.proxy, c.version, random(libraryBytes))
}

// commit is a folder with the source of an app as it is now.
func (c *commits) commit(t *testing.T, app string, n int) string {
	t.Helper()
	c.write(t, app+"/go.mod", []byte("module "+app+"\n\ngo 1.24\n\nrequire "+library+" "+c.version+"\n"))
	c.write(t, app+"/go.sum", []byte(c.sum))
	c.write(t, app+"/main.go", []byte("package main\n\nimport (\n\t\"net/http\"\n\n\t\""+library+"\"\n\n\t\""+app+"/asset\"\n)\n\n"+
		"func main() { _ = http.ListenAndServe(library.Data[:1]+asset.Data, nil) }\n"))
	c.write(t, app+"/asset/asset.go", fmt.Appendf(nil, "package asset\n\nimport _ \"embed\"\n\n//go:embed data\nvar Data string // of commit %d\n", n))
	c.write(t, app+"/asset/data", random(assetBytes))
	return filepath.Join(c.root, app)
}

// build does what a build does with the volume: it holds the caches, runs Go
// upon them, and tidies beside that.
func (c *commits) build(ctx context.Context, source string) error {
	goBuild, err := gocache.OpenHeld(c.volume, gocache.GoBuild, gocache.MinFree)
	if err != nil {
		return err
	}
	goMod, err := gocache.OpenHeld(c.volume, gocache.GoMod, gocache.MinFree)
	if err != nil {
		return errors.Join(err, goBuild.Release())
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(c.sum, library+" "), " ")
	gocache.UseModules(goMod, []gocache.Sum{{Version: module.Version{Path: library, Version: version}}}, "")
	tidying := gocache.Tidy(gocache.Budget{Volume: c.volume, Size: budget, Repository: filepath.Base(source), GoBuild: goBuild.Path(), GoMod: goMod.Path()})
	build := exec.CommandContext(ctx, "go", "build", "-o", os.DevNull, ".")
	build.Dir = source
	build.Env = append(os.Environ(), "GOCACHE="+goBuild.Path(), "GOMODCACHE="+goMod.Path(), "GOPROXY=file://"+c.proxy, "GONOSUMDB=*", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	output, err := build.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, output)
	}
	if err := errors.Join(err, goBuild.Release(), goMod.Release()); err != nil {
		return err
	}
	_, err = tidying.End(time.Minute)
	return err
}

func (c *commits) goBuild(t *testing.T) string {
	t.Helper()
	dir, err := gocache.Open(c.volume, gocache.GoBuild, 0)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// files visits every file of the volume once, whatever names it has.
func (c *commits) files(t *testing.T, visit func(path string, info fs.FileInfo)) {
	t.Helper()
	seen := map[uint64]bool{}
	err := filepath.WalkDir(c.volume, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if inode := info.Sys().(*syscall.Stat_t).Ino; !seen[inode] {
			seen[inode] = true
			visit(path, info)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// bytes is what everything on the volume takes: all generations, and what is
// about to be deleted.
func (c *commits) bytes(t *testing.T) int64 {
	t.Helper()
	var sum int64
	c.files(t, func(_ string, info fs.FileInfo) { sum += info.Sys().(*syscall.Stat_t).Blocks * 512 })
	return sum
}

// pass lets time pass: what the volume has was used that much earlier.
func (c *commits) pass(t *testing.T, age time.Duration) {
	t.Helper()
	c.files(t, func(path string, info fs.FileInfo) {
		if info.Mode()&fs.ModeSymlink != 0 {
			return
		}
		then := info.ModTime().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	})
}
