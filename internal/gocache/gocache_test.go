package gocache_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "go-mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := os.Symlink("/", filepath.Join(linked, "go-mod")); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		volume  string
		minFree int64
		want    string
	}{
		"foreign file": {foreign, 0, "go-mod is not a folder"},
		"foreign link": {linked, 0, "go-mod is not a folder"},
		"full":         {t.TempDir(), 1 << 60, "left on the volume"},
		"read-only":    {"/proc/self", 0, "go-mod"},
		"absent":       {filepath.Join(foreign, "absent"), 0, "no such file"},
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
