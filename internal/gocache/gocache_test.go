package gocache_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/internal/gocache"
)

func TestOpenMakesACacheForEveryUser(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	for range 2 {
		dir, err := gocache.Open(volume, gocache.GoBuild, 0)
		if err != nil || dir != filepath.Join(volume, "go-build") {
			t.Fatalf("got %s, %v", dir, err)
		}
	}
	for _, name := range []string{"go-build", "go-build/00", "go-build/ff"} {
		info, err := os.Stat(filepath.Join(volume, name))
		if err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(volume, "go-build"))
	if err != nil || len(entries) != 256 {
		t.Errorf("%d entries, %v: something was left", len(entries), err)
	}
}

func TestWhatAUserAddsIsEveryUsers(t *testing.T) {
	t.Parallel()
	for _, name := range []gocache.Name{gocache.GoBuild, gocache.GoMod} {
		dir, err := gocache.Open(t.TempDir(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !gocache.Shared(dir) {
			t.Fatalf("%s: the file system of this machine's temporary folder has no access control lists", dir)
		}
		// As go commands make them, with the umask that root usually has.
		folder := filepath.Join(dir, "00", "some", "module")
		if err := os.MkdirAll(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(folder, "lock")
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]fs.FileMode{folder: fs.ModeDir | 0o777, file: 0o666} {
			if info, err := os.Stat(path); err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
	}
	if gocache.Shared(t.TempDir()) {
		t.Error("any folder passes for a shared one")
	}
}

func TestOpenSaysWhyAVolumeIsOfNoUse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		volume  string
		minFree int64
		want    string
	}{
		"full":      {t.TempDir(), 1 << 60, "left on the volume"},
		"read-only": {"/proc/self", 0, "go-mod"},
		"absent":    {filepath.Join(t.TempDir(), "absent"), 0, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := gocache.Open(tc.volume, gocache.GoMod, tc.minFree)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// What somebody has put where a cache belongs is not lost, and stands in no
// build's way, however many find it at the same time.
func TestForeignFilesAreSetAside(t *testing.T) {
	t.Parallel()
	volume, elsewhere := t.TempDir(), t.TempDir()
	for _, file := range []string{"go-build", "bases", "trash"} {
		if err := os.WriteFile(filepath.Join(volume, file), []byte("somebody's "+file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(elsewhere, filepath.Join(volume, "go-mod")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(volume, "usage.json", "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	var builds sync.WaitGroup
	for range 20 {
		builds.Go(func() {
			for _, name := range []gocache.Name{gocache.GoBuild, gocache.GoMod, gocache.Bases} {
				dir, err := gocache.Open(volume, name, 0)
				if err != nil {
					t.Error(err)
					continue
				}
				// Nobody takes the folder away any more.
				if err := os.Mkdir(filepath.Join(dir, rand.Text()), 0o755); err != nil {
					t.Error(err)
				}
			}
		})
	}
	builds.Wait()
	tidy(t, volume, 0)
	for _, name := range []string{"go-build", "go-mod", "bases", "trash", "usage.json"} {
		info, err := os.Lstat(filepath.Join(volume, name))
		if err != nil || info.IsDir() != (name != "usage.json") {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		aside, err := filepath.Glob(filepath.Join(volume, name+".aside-*", name))
		if err != nil || len(aside) == 0 {
			t.Fatalf("what was %s is lost: %v", name, err)
		}
		switch name {
		case "go-mod":
			if to, err := os.Readlink(aside[0]); err != nil || to != elsewhere {
				t.Errorf("the link that was %s leads to %q, %v", name, to, err)
			}
		case "usage.json":
			if !exists(filepath.Join(aside[0], "folder")) {
				t.Errorf("what was in %s is lost", name)
			}
		default:
			if content, err := os.ReadFile(aside[0]); err != nil || string(content) != "somebody's "+name {
				t.Errorf("the file that was %s has %q, %v", name, content, err)
			}
		}
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Errorf("where a link leads, there is %v now, %v", entries, err)
	}
}

// What a run was killed over is deleted a day later, wherever it is.
func TestWhatAKilledRunHasLeftIsDeleted(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openHeld(t, volume)
	defer func() { _ = held.Release() }()
	var left, stays []string
	for _, path := range []string{filepath.Join(volume, ".staging-1"), filepath.Join(volume, ".usage.json.2"), filepath.Join(held.Path(), ".lease-3"), filepath.Join(held.Path(), ".staging-4")} {
		left, stays = append(left, path), append(stays, path+"5")
	}
	stays = append(stays, filepath.Join(volume, ".somebody's"))
	for _, path := range append(stays, left...) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range append(left, stays[len(stays)-1]) {
		aged(t, path, 25*time.Hour)
	}
	if _, err := gocache.Tidy(gocache.Budget{Volume: volume, GoBuild: held.Path()}).End(time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range stays {
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
}

func TestReadCompiled(t *testing.T) {
	t.Parallel()
	// What go1.26 wrote for a program that prints a line, after that changed.
	file, err := os.Open("testdata/one-line.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := gocache.Compiled{Compiled: 1, Cached: 60}
	if got, err := gocache.ReadCompiled(file); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	several := `[{"Mode":"build"},{"Mode":"build"}][{"Mode":"build","ActionID":"a","Cmd":["compile"]},{"Mode":"build","ActionID":"b","Cmd":null}]
		[{"Mode":"build","ActionID":"a","Cmd":null},{"Mode":"build","ActionID":"c","Cmd":null},{"Mode":"link","ActionID":"d","Cmd":["link"]}]`
	if got, err := gocache.ReadCompiled(strings.NewReader(several)); err != nil || got != (gocache.Compiled{Compiled: 1, Cached: 2}) {
		t.Errorf("several commands: got %+v, %v", got, err)
	}
	for _, wrong := range []string{"", "null", "{}", "[", "[]", `[{"Mode":"build","ActionID":"a"}`, `[{"Mode":7}]`, `[{"Mode":"link"}]`, `["` + strings.Repeat("x", 1<<20) + `"]`} {
		if got, err := gocache.ReadCompiled(strings.NewReader(wrong)); err == nil || got != (gocache.Compiled{}) {
			t.Errorf("%.20q: got %+v, %v", wrong, got, err)
		}
	}
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
