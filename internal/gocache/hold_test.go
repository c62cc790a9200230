package gocache_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
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

func openModules(t *testing.T, volume string) *gocache.Held {
	t.Helper()
	held, err := gocache.OpenHeld(volume, gocache.GoMod, 0)
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

// Programs that go commands keep for "go run" and "go tool" are in folders.
func TestAProgramCountsAsWhatItTakes(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openHeld(t, volume)
	program := filepath.Join(held.Path(), "00", "00old-d", "stringer")
	if err := errors.Join(os.Mkdir(filepath.Dir(program), 0o755), os.WriteFile(program, make([]byte, 3<<20), 0o755)); err != nil {
		t.Fatal(err)
	}
	aged(t, filepath.Dir(program), 48*time.Hour)
	object(t, held.Path(), "01new-d", 1<<20, time.Hour)
	if said := tidy(t, volume, 4<<20); !strings.Contains(said, "; removing 3.1") {
		t.Errorf("the log says %q", said)
	}
	next := openHeld(t, volume)
	if exists(filepath.Join(next.Path(), "00", "00old-d")) || !exists(filepath.Join(next.Path(), "01", "01new-d")) {
		t.Error("not what was used last was carried over")
	}
}

// A build waits for tidying no longer than it likes. Whatever is left to do,
// the next ones do.
func TestTidyingThatIsCutOff(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openHeld(t, volume)
	modules := openModules(t, volume)
	old := object(t, held.Path(), "00old-d", 2<<20, 48*time.Hour)
	object(t, held.Path(), "01new-d", 1<<20, time.Hour)
	id := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
	sum := download(t, modules.Path(), id)
	if err := errors.Join(held.Release(), modules.Release()); err != nil {
		t.Fatal(err)
	}
	for n := 0; exists(old); n++ {
		if n > 10_000 {
			t.Fatal("it never comes to an end")
		}
		tidying := gocache.Tidy(gocache.Budget{Volume: volume, Size: 3 << 20})
		if _, err := tidying.End(0); err != nil {
			t.Fatal(err)
		}
		<-tidying.Beside()
	}
	trash, err := os.Open(filepath.Join(volume, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	defer trash.Close()
	if err := unix.Flock(int(trash.Fd()), unix.LOCK_EX); err != nil { // who has it goes on after End
		t.Fatal(err)
	}
	next := openModules(t, volume)
	if got, err := dirhash.HashDir(filepath.Join(next.Path(), id.String()), id.String(), dirhash.Hash1); err != nil || got != sum {
		t.Errorf("the module is %s, %v, and was %s", got, err, sum)
	}
	if objects := openHeld(t, volume); !exists(filepath.Join(objects.Path(), "01", "01new-d")) {
		t.Error("what was used last is gone")
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
	// A network file system may leave the locks of folders to the kernel.
	restore := gocache.SetFlock(func(fd, how int) error {
		var info unix.Stat_t
		if err := unix.Fstat(fd, &info); err != nil || info.Mode&unix.S_IFMT != unix.S_IFDIR {
			return errors.Join(err, unix.ENOLCK)
		}
		return unix.Flock(fd, how)
	})
	if _, err := gocache.OpenHeld(t.TempDir(), gocache.GoMod, 0); !errors.Is(err, gocache.ErrNoLocks) {
		t.Errorf("where folders have locks and files have none it says %v", err)
	}
	restore()

	restore = gocache.SetFlock(func(int, int) error { return unix.ENOLCK })
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
		if removed, err := gocache.Trim(volume, 0); err != nil || removed != want {
			t.Errorf("unused for %s: removed %d, %v", age, removed, err)
		}
	}
}

// Who removes a folder takes it for a moment. That is no reason to go without.
func TestHoldWaitsWhileAFolderIsTaken(t *testing.T) {
	dir := t.TempDir()
	refused := 0
	defer gocache.SetFlock(func(fd, how int) error {
		if how == unix.LOCK_SH|unix.LOCK_NB && refused < 2 {
			refused++
			return unix.EWOULDBLOCK
		}
		return unix.Flock(fd, how)
	})()
	held, err := gocache.Hold(dir)
	if err != nil || refused != 2 {
		t.Errorf("refused %d times: %v", refused, err)
	}
	if err := held.Release(); err != nil {
		t.Error(err)
	}
}

// The build step makes anew what is not there.
func TestAFolderThatGoesWhileItIsLockedIsNotThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "go-mod")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	defer gocache.SetFlock(func(fd, how int) error {
		return errors.Join(os.Remove(dir), unix.Flock(fd, how))
	})()
	if _, err := gocache.Hold(dir); !absent(err) {
		t.Errorf("got %v", err)
	}
}
