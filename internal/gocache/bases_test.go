package gocache_test

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-ci/slipway/internal/gocache"
)

func testImage(t *testing.T) (v1.Image, v1.Hash) {
	t.Helper()
	img, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.MediaType(img, types.OCIManifestSchema1)
	digest := digestOf(t, img)
	return img, digest
}

func TestBaseImagesAreAsKanikoReadsThem(t *testing.T) {
	t.Parallel()
	bases := gocache.BaseImages(t.TempDir())
	img, digest := testImage(t)
	if _, err := bases.Check(digest); !absent(err) {
		t.Fatalf("before it is there: %v", err)
	}
	var read atomic.Int64
	for range 2 { // the second as if another run had been faster
		if err := bases.Add(t.Context(), img, func(n int) { read.Add(int64(n)) }); err != nil {
			t.Fatal(err)
		}
	}
	size, err := bases.Check(digest)
	if err != nil || size < 3000 || read.Load() < 2*3000 {
		t.Errorf("size %d, %v, read %d", size, err, read.Load())
	}
	// pkg/cache/cache.go, ociCachedImageFromPath
	index, err := layout.ImageIndexFromPath(bases.Path(digest))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := index.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(stored); err != nil {
		t.Error(err)
	}
	if mediaType, err := stored.MediaType(); err != nil || mediaType != types.OCIManifestSchema1 {
		t.Errorf("it became a %s, %v", mediaType, err)
	}
	onlyEntries(t, bases, digest.String())
}

func TestDamagedBaseImagesAreFound(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, entry string, blobs []string){
		"a blob changed":    func(t *testing.T, _ string, blobs []string) { overwrite(t, blobs[0]) },
		"a blob cut off":    func(t *testing.T, _ string, blobs []string) { truncate(t, blobs[1]) },
		"a blob missing":    func(t *testing.T, _ string, blobs []string) { remove(t, blobs[2]) },
		"the index missing": func(t *testing.T, entry string, _ []string) { remove(t, filepath.Join(entry, "index.json")) },
		"a blob that is a link out": func(t *testing.T, _ string, blobs []string) {
			remove(t, blobs[3])
			if err := os.Symlink("/etc/hostname", blobs[3]); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bases := gocache.BaseImages(t.TempDir())
			img, digest := testImage(t)
			if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
				t.Fatal(err)
			}
			blobs, err := filepath.Glob(filepath.Join(bases.Path(digest), "blobs/sha256/*"))
			if err != nil || len(blobs) != 5 {
				t.Fatalf("%q, %v", blobs, err)
			}
			damage(t, bases.Path(digest), blobs)
			if _, err := bases.Check(digest); err == nil || absent(err) {
				t.Errorf("got %v", err)
			}
			if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
				t.Error(err)
			}
			if _, err := bases.Check(digest); err != nil {
				t.Errorf("in its place: %v", err)
			}
			onlyEntries(t, bases, digest.String())
		})
	}
}

// brokenLayer stops in the middle, as a connection does.
type brokenLayer struct{ v1.Layer }

func (brokenLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{})), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection lost") }

func TestAnInterruptedDownloadLeavesNothing(t *testing.T) {
	t.Parallel()
	bases := gocache.BaseImages(t.TempDir())
	img, _ := testImage(t)
	layer, err := random.Layer(100, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.AppendLayers(img, brokenLayer{layer})
	if err != nil {
		t.Fatal(err)
	}
	if err := bases.Add(t.Context(), img, func(int) {}); err == nil || !strings.Contains(err.Error(), "connection lost") {
		t.Errorf("got %v", err)
	}
	onlyEntries(t, bases)
}

func TestTrimRemovesWhatIsNotUsed(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	bases := gocache.BaseImages(filepath.Join(volume, "bases"))
	now := time.Now()
	if err := os.Mkdir(string(bases), 0o755); err != nil {
		t.Fatal(err)
	}
	img, used := testImage(t)
	if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
		t.Fatal(err)
	}
	img, unused := testImage(t)
	if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{used.String(): 15 * 24 * time.Hour, unused.String(): 15 * 24 * time.Hour, ".staging-old": 25 * time.Hour, ".staging-new": time.Hour, "not-ours": 100 * 24 * time.Hour} {
		path := filepath.Join(string(bases), name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bases.Check(used); err != nil {
		t.Fatal(err)
	}
	if removed, err := gocache.Trim(volume, 0); err != nil || removed != 1 {
		t.Errorf("removed %d, %v", removed, err)
	}
	onlyEntries(t, bases, ".staging-new", "not-ours", used.String())
}

// The volume has its budget for base images and toolchains too, and where there
// is no room for any cache, room is made before one is opened.
func TestTrimMakesRoom(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	now := time.Now()
	if err := os.WriteFile(filepath.Join(volume, "usage.json"), []byte(`{"kept": "`+now.Add(-24*time.Hour).Format(time.RFC3339)+`"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	old, recent := "sha256:"+strings.Repeat("0", 64), "sha256:"+strings.Repeat("1", 64)
	for _, name := range []string{"bases", "toolchains"} {
		for entry, age := range map[string]time.Duration{old: 25 * time.Hour, recent: 23 * time.Hour} {
			dir := filepath.Join(volume, name, entry)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			aged(t, dir, age)
		}
	}
	if removed, err := gocache.Trim(volume, 0); err != nil || removed != 2 {
		t.Errorf("removed %d, %v", removed, err)
	}
	for _, name := range []string{"bases", "toolchains"} {
		if exists(filepath.Join(volume, name, old)) || !exists(filepath.Join(volume, name, recent)) {
			t.Errorf("%s: not what was used last stays", name)
		}
	}
	trash := filepath.Join(volume, "trash")
	if left, err := os.ReadDir(trash); err != nil || len(left) != 2 {
		t.Errorf("the trash has %v, %v: it is for beside a build", left, err)
	}
	if _, err := gocache.Trim(volume, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(trash); err != nil || len(left) > 0 {
		t.Errorf("the trash has %v, %v on a full volume", left, err)
	}
}

// Every RUN instruction can write the file that says since when things are kept.
func TestATimeToComeTrimsNothing(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	writeFile(t, filepath.Join(volume, "usage.json"), `{"kept": "`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"}`)
	used := filepath.Join(volume, "bases", "sha256:"+strings.Repeat("0", 64))
	if err := os.MkdirAll(used, 0o755); err != nil {
		t.Fatal(err)
	}
	aged(t, used, time.Hour)
	if removed, err := gocache.Trim(volume, 0); err != nil || removed > 0 || !exists(used) {
		t.Errorf("removed %d, %v", removed, err)
	}
	if usage := gocache.ReadUsage(volume); !usage.Kept.IsZero() {
		t.Errorf("since %s", usage.Kept)
	}
}

func onlyEntries(t *testing.T, bases gocache.BaseImages, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(string(bases))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the folder has %q, want %q", got, want)
	}
}

func overwrite(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
