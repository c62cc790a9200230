package gocache_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// The test binary is also a build in a process of its own, that holds a cache
// until it is killed.
func TestMain(m *testing.M) {
	if volume := os.Getenv("HOLD_GO_BUILD_OF"); volume != "" {
		if _, err := gocache.OpenHeld(volume, gocache.GoBuild, 0); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		println("held")
		select {}
	}
	os.Exit(m.Run())
}

// tidy tidies a volume as a build does, and returns what its log says.
func tidy(t *testing.T, volume string, size int64) string {
	t.Helper()
	said, err := gocache.Tidy(gocache.Budget{Volume: volume, Size: size, Toolchains: filepath.Join(volume, "toolchains")}).End(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// object puts a file into GOCACHE that was last used some time ago.
func object(t *testing.T, goBuild, name string, size int, age time.Duration) string {
	t.Helper()
	path := filepath.Join(goBuild, name[:2], name)
	if err := os.WriteFile(path, make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	aged(t, path, age)
	return path
}

// aged lets a file have been used some time ago.
func aged(t *testing.T, path string, age time.Duration) {
	t.Helper()
	used := time.Now().Add(-age)
	if err := os.Chtimes(path, used, used); err != nil {
		t.Fatal(err)
	}
}

func openHeld(t *testing.T, volume string) *gocache.Held {
	t.Helper()
	held, err := gocache.OpenHeld(volume, gocache.GoBuild, 0)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestNothingGoesThatABuildHolds(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openHeld(t, volume)
	old := object(t, held.Path(), "00old-d", 1<<20, 48*time.Hour)
	kept := object(t, held.Path(), "01new-d", 1<<20, time.Hour)
	said := tidy(t, volume, 2<<20)
	if !strings.Contains(said, "; removing 1.0") {
		t.Errorf("the log says %q", said)
	}
	if !exists(old) || !exists(kept) {
		t.Error("an object was removed under a build")
	}
	next := openHeld(t, volume)
	if next.Path() == held.Path() {
		t.Fatalf("the next build uses %s too", next.Path())
	}
	if exists(filepath.Join(next.Path(), "00", "00old-d")) || !exists(filepath.Join(next.Path(), "01", "01new-d")) {
		t.Error("not what was used last was carried over")
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	tidy(t, volume, 2<<20)
	if exists(held.Path()) {
		t.Errorf("%s is still there, and nobody holds it", held.Path())
	}
	if left, err := os.ReadDir(filepath.Join(volume, "trash")); err != nil || len(left) > 0 {
		t.Errorf("the trash has %v, %v", left, err)
	}
}

// Between two processes of a build there is only a lease.
func TestALeaseHoldsForTheTimeBetweenTwoSteps(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openHeld(t, volume)
	object(t, held.Path(), "00old-d", 1<<20, 48*time.Hour)
	lease, err := held.Lease()
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	tidy(t, volume, 1<<20)
	if !exists(held.Path()) {
		t.Fatal("what has a lease was removed")
	}
	// Its run was killed.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(lease, old, old); err != nil {
		t.Fatal(err)
	}
	tidy(t, volume, 1<<20)
	if exists(held.Path()) {
		t.Error("a lease counts for ever")
	}
}

func TestAKilledBuildHoldsNothing(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), program)
	build.Env = append(os.Environ(), "HOLD_GO_BUILD_OF="+volume)
	said, err := build.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 5)
	if _, err := said.Read(word); err != nil || string(word) != "held\n" {
		t.Fatalf("%q, %v", word, err)
	}
	first := filepath.Join(volume, "go-build")
	object(t, first, "00old-d", 1<<20, 48*time.Hour)
	tidy(t, volume, 1<<20)
	if !exists(first) {
		t.Fatal("it was removed under a build")
	}
	if err := build.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = build.Wait()
	tidy(t, volume, 1<<20)
	if exists(first) {
		t.Error("the killed build still holds it")
	}
}

func TestWithoutLocksGoCommandsGetNoCache(t *testing.T) {
	restore := gocache.SetFlock(func(int, int) error { return unix.ENOLCK })
	defer restore()
	volume := t.TempDir()
	_, err := gocache.OpenHeld(volume, gocache.GoMod, 0)
	if !errors.Is(err, gocache.ErrNoLocks) || !strings.Contains(err.Error(), "go commands need them") {
		t.Errorf("got %v", err)
	}
	bases := gocache.BaseImages(filepath.Join(volume, "bases"))
	img, digest := testImage(t)
	if err := os.Mkdir(string(bases), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
		t.Fatal(err)
	}
	// Nobody can tell who uses it: that nobody did for two weeks must do.
	now := time.Now()
	for want, age := range []time.Duration{13 * 24 * time.Hour, 15 * 24 * time.Hour} {
		if err := os.Chtimes(bases.Path(digest), now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		if removed, err := bases.Trim(now, now); err != nil || removed != want {
			t.Errorf("unused for %s: removed %d, %v", age, removed, err)
		}
	}
}
