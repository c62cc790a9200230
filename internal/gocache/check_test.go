package gocache_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// download puts a module into a GOMODCACHE as go commands do, and returns its
// go.sum hash.
func download(t *testing.T, goMod string, id module.Version) string {
	t.Helper()
	source := t.TempDir()
	for file, content := range map[string]string{"go.mod": "module " + id.Path + "\n", "lib.go": "package lib\n", "sub/sub.go": "package sub\n"} {
		path := filepath.Join(source, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(goMod, "cache", "download", id.Path, "@v", id.Version)
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(at + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(zip.CreateFromDir(archive, id, source), archive.Close(), zip.Unzip(filepath.Join(goMod, id.String()), id, at+".zip")); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.HashZip(at+".zip", dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	for extension, content := range map[string]string{".mod": "module " + id.Path + "\n", ".info": "{}", ".ziphash": sum} {
		if err := os.WriteFile(at+extension, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

func TestCheckAllTakesAwayWhatIsDamaged(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openHeld(t, volume)
	goMod, err := gocache.Open(volume, gocache.GoMod, 0)
	if err != nil {
		t.Fatal(err)
	}
	basesDir, err := gocache.Open(volume, gocache.Bases, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := sha256.Sum256(make([]byte, 100))
	goodObject := object(t, held.Path(), hex.EncodeToString(good[:])+"-d", 100, time.Hour)
	badObject := object(t, held.Path(), strings.Repeat("0", 64)+"-d", 100, time.Hour)
	beingWritten := object(t, held.Path(), strings.Repeat("1", 64)+"-d", 100, 0)
	for _, path := range []string{"example.com/good", "example.com/archive", "example.com/files"} {
		download(t, goMod, module.Version{Path: path, Version: "v1.0.0"})
	}
	overwrite(t, filepath.Join(goMod, "cache/download/example.com/archive/@v/v1.0.0.zip"))
	overwrite(t, filepath.Join(goMod, "example.com/files@v1.0.0/sub/sub.go"))
	bases := gocache.BaseImages(basesDir)
	img, goodBase := testImage(t)
	if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
		t.Fatal(err)
	}
	img, badBase := testImage(t)
	if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(bases.Path(badBase), "blobs/sha256/*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	overwrite(t, blobs[0])

	var damaged []string
	read, err := gocache.CheckAll(t.Context(), volume, func(d gocache.Damage) { damaged = append(damaged, d.Path) })
	if err != nil || read != 8 {
		t.Errorf("read %d, %v", read, err)
	}
	slices.Sort(damaged)
	want := []string{"bases/" + badBase.String(), "go-build/00/" + strings.Repeat("0", 64) + "-d", "go-mod/example.com/archive@v1.0.0", "go-mod/example.com/files@v1.0.0"}
	if !slices.Equal(damaged, want) {
		t.Errorf("damaged are %q, want %q", damaged, want)
	}
	for path, want := range map[string]bool{
		goodObject: true, badObject: false, beingWritten: true,
		filepath.Join(goMod, "example.com/good@v1.0.0/lib.go"):                       true,
		filepath.Join(goMod, "example.com/files@v1.0.0"):                             false,
		filepath.Join(goMod, "example.com/archive@v1.0.0"):                           false,
		filepath.Join(goMod, "cache/download/example.com/archive/@v/v1.0.0.ziphash"): false,
		bases.Path(goodBase): true, bases.Path(badBase): false,
	} {
		if exists(path) != want {
			t.Errorf("%s is there: %t, want %t", path, !want, want)
		}
	}
}

// What is damaged does not come back with a generation that is being made.
func TestDamageGoesFromTheNextGenerationToo(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	held := openHeld(t, volume)
	modules := openModules(t, volume)
	name := strings.Repeat("0", 64) + "-d"
	object(t, held.Path(), name, 100, time.Hour)
	id := module.Version{Path: "example.com/files", Version: "v1.0.0"}
	for _, dir := range []string{modules.Path(), modules.Path() + ".next"} {
		download(t, dir, id)
		overwrite(t, filepath.Join(dir, id.String(), "lib.go"))
	}
	next := filepath.Join(held.Path()+".next", "00", name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(next), 0o755), os.Link(filepath.Join(held.Path(), "00", name), next)); err != nil {
		t.Fatal(err)
	}
	found := 0
	if _, err := gocache.CheckAll(t.Context(), volume, func(gocache.Damage) { found++ }); err != nil || found != 2 {
		t.Errorf("%d are damaged, %v", found, err)
	}
	for _, path := range []string{next, modules.Path() + ".next/" + id.String(), modules.Path() + ".next/cache/download/example.com/files/@v/v1.0.0.ziphash"} {
		if exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
}

// Another build replaces what is damaged as well.
func TestWhatIsReplacedWhileItIsReadStays(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	dir, err := gocache.Open(volume, gocache.Bases, 0)
	if err != nil {
		t.Fatal(err)
	}
	bases := gocache.BaseImages(dir)
	img, digest := testImage(t)
	if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(bases.Path(digest), "index.json"))
	damaged, err := gocache.CheckBases(t.Context(), volume, func(ctx context.Context, digest v1.Hash) error {
		_, problem := bases.Check(digest)
		return errors.Join(problem, bases.Add(ctx, img, func(int) {}))
	})
	if err != nil || damaged > 0 {
		t.Errorf("%d are damaged, %v", damaged, err)
	}
	if _, err := bases.Check(digest); err != nil {
		t.Errorf("what took its place: %v", err)
	}
}
