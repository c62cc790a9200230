package layercache_test

import (
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	server "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/registry"
)

const ttl = 14 * 24 * time.Hour

// world is a registry and the index of an image.
type world struct {
	t      *testing.T
	client *registry.Client
	index  name.Tag
	now    time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := httptest.NewServer(server.New(server.Logger(stdlog.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	index, err := name.NewTag(strings.TrimPrefix(s.URL, "http://") + "/team/cache:index-1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, client, index, time.Now().Truncate(time.Second)}
}

// build is one whose kaniko looks up some keys, and makes the layers of those
// that are not there. It returns those that were.
func (w *world) build(after time.Duration, known bool, keys ...string) (hits []string, made layercache.Made) {
	w.t.Helper()
	now := w.now.Add(after)
	folder := layercache.Folder(filepath.Join(w.t.TempDir(), "layers"))
	pulled, err := layercache.Pull(w.t.Context(), w.client, w.index, folder, ttl, now)
	if err != nil {
		w.t.Fatal(err)
	}
	used := map[string]bool{}
	for _, key := range keys {
		used[key] = true
		if img, err := read(w.entry(folder, key)); err == nil {
			if err := validate.Image(img); err != nil {
				w.t.Error(err)
			}
			hits = append(hits, key[:1])
			continue
		}
		w.make(folder, key)
	}
	if !known {
		used = nil
	}
	made, err = layercache.Push(w.t.Context(), w.client, w.index, folder, pulled, used, read, ttl, now)
	if err != nil {
		w.t.Fatal(err)
	}
	return hits, made
}

// entry is where kaniko looks for a key: it puts a colon between.
func (w *world) entry(folder layercache.Folder, key string) string {
	return strings.TrimPrefix(folder.Flag(), "oci:") + ":" + key
}

func (w *world) make(folder layercache.Folder, key string) {
	w.t.Helper()
	img, err := random.Image(1000, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	entry, err := layout.Write(w.entry(folder, key), empty.Index)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := entry.AppendImage(img); err != nil {
		w.t.Fatal(err)
	}
}

func read(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	return index.Image(manifest.Manifests[0].Digest)
}

func keyOf(letter string) string { return strings.Repeat(letter, 64) }

func TestABuildFindsWhatTheLastOneMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := keyOf("a"), keyOf("b"), keyOf("c")
	for i, build := range []struct {
		known bool
		keys  []string
		hits  string
		kept  int
	}{
		{true, []string{a, b}, "[]", 0},
		{true, []string{a, b}, "[a b]", 2},
		{true, []string{a, c}, "[a]", 1}, // b is not looked up any more,
		{true, []string{a, b}, "[a]", 1}, // and so it has gone
		{false, []string{a}, "[a]", 2},   // what is looked up is not known: all stays
		{true, []string{a, b}, "[a b]", 2},
	} {
		hits, made := w.build(0, build.known, build.keys...)
		if got := fmt.Sprint(hits); got != build.hits || made.Kept != build.kept || made.New != len(build.keys)-len(hits) {
			t.Errorf("build %d: hits %s, %+v, want %s and %d kept", i, got, made, build.hits, build.kept)
		}
	}
	// As kaniko itself would have it there.
	tag := w.index.Tag(b)
	if _, err := remote.Image(tag); err != nil {
		t.Error(err)
	}
}

func TestEntriesThatAreTooOldAreLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := keyOf("a"), keyOf("b")
	w.build(0, true, a)
	if hits, _ := w.build(ttl-time.Hour, true, a, b); len(hits) != 1 {
		t.Errorf("an hour before: hits %s", hits)
	}
	// That it was used does not make it younger.
	if hits, _ := w.build(ttl+time.Hour, true, a, b); fmt.Sprint(hits) != "[b]" {
		t.Errorf("an hour after: hits %s", hits)
	}
}

// What a RUN leaves among the layers reaches no other build.
func TestWhatIsNoEntryIsNotPushed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := keyOf("a")
	w.build(0, true, a)
	folder := layercache.Folder(filepath.Join(t.TempDir(), "layers"))
	pulled, err := layercache.Pull(t.Context(), w.client, w.index, folder, ttl, w.now)
	if err != nil {
		t.Fatal(err)
	}
	// An entry that was pulled is changed, and others are forged.
	if err := os.RemoveAll(w.entry(folder, a)); err != nil {
		t.Fatal(err)
	}
	w.make(folder, a)
	for _, name := range []string{"no-key", "..", keyOf("A")} {
		w.make(folder, name)
	}
	if err := os.Symlink(w.entry(folder, a), w.entry(folder, keyOf("d"))); err != nil {
		t.Fatal(err)
	}
	made, err := layercache.Push(t.Context(), w.client, w.index, folder, pulled, map[string]bool{a: true, keyOf("d"): true}, read, ttl, w.now)
	if err != nil || made.New != 0 || made.Kept != 1 {
		t.Errorf("%+v, %v", made, err)
	}
	again, err := layercache.Pull(t.Context(), w.client, w.index, layercache.Folder(t.TempDir()), ttl, w.now)
	if err != nil || !slices.Equal(again, pulled) {
		t.Errorf("the next build has %v, %v, want %v", again, err, pulled)
	}
}

// A cache with a fault is a smaller one.
func TestFaultsOfTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := keyOf("a"), keyOf("b")
	w.build(0, true, a, b)
	// Somebody has removed an entry.
	found, err := remote.Head(w.index.Tag(a))
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []name.Reference{w.index.Tag(a), w.index.Digest(found.Digest.String())} {
		if err := remote.Delete(ref); err != nil {
			t.Fatal(err)
		}
	}
	pulled, err := layercache.Pull(t.Context(), w.client, w.index, layercache.Folder(t.TempDir()), ttl, w.now)
	if err == nil || len(pulled) != 1 || pulled[0].Key != b {
		t.Errorf("an entry is gone: got %v, %v", pulled, err)
	}
	// The index is another thing altogether.
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(w.index, img); err != nil {
		t.Fatal(err)
	}
	pulled, err = layercache.Pull(t.Context(), w.client, w.index, layercache.Folder(t.TempDir()), ttl, w.now)
	if err == nil || !strings.HasSuffix(err.Error(), "it is no index of layers") || len(pulled) != 0 {
		t.Errorf("no index: got %v, %v", pulled, err)
	}
}

// kaniko fails a build for an entry that has another number of layers.
func TestAnEntryOfSeveralLayers(t *testing.T) {
	t.Parallel()
	const want = "it is an image of 2 layers, where an entry has one"
	w := newWorld(t)
	a, b := keyOf("a"), keyOf("b")
	two, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}

	// A RUN leaves one.
	folder := layercache.Folder(filepath.Join(t.TempDir(), "layers"))
	w.make(folder, b)
	entry, err := layout.Write(w.entry(folder, a), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := entry.AppendImage(two); err != nil {
		t.Fatal(err)
	}
	made, err := layercache.Push(t.Context(), w.client, w.index, folder, nil, nil, read, ttl, w.now)
	if err == nil || !strings.HasSuffix(err.Error(), want) || made.New != 1 {
		t.Errorf("push: %+v, %v", made, err)
	}
	if _, err := remote.Head(w.index.Tag(a)); err == nil {
		t.Error("push: the registry has it")
	}

	// An index names one.
	if err := remote.Write(w.index.Tag(a), two); err != nil {
		t.Fatal(err)
	}
	forged := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: two, Descriptor: v1.Descriptor{Annotations: map[string]string{
		"dev.slipway.layer.key": a, "dev.slipway.layer.bytes": "2000", "org.opencontainers.image.created": w.now.Format(time.RFC3339),
	}}}), types.OCIImageIndex)
	if err := remote.WriteIndex(w.index, forged); err != nil {
		t.Fatal(err)
	}
	folder = layercache.Folder(t.TempDir())
	pulled, err := layercache.Pull(t.Context(), w.client, w.index, folder, ttl, w.now)
	if err == nil || !strings.HasSuffix(err.Error(), want) || len(pulled) != 0 {
		t.Errorf("pull: %v, %v", pulled, err)
	}
	if _, err := os.Stat(w.entry(folder, a)); err == nil {
		t.Error("pull: kaniko would find it")
	}
}

// A layer that is not what the index says never gets to kaniko.
func TestAnEntryThatIsNotWhatTheIndexSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.build(0, true, keyOf("a"))
	forging := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		answer, err := http.Get("http://" + w.index.RegistryStr() + r.URL.Path) //nolint:noctx,gosec // a test's own
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		content, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Error(err)
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			content[len(content)-1]++
		}
		rw.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
		rw.WriteHeader(answer.StatusCode)
		_, _ = rw.Write(content)
	}))
	t.Cleanup(forging.Close)
	index, err := name.NewTag(strings.TrimPrefix(forging.URL, "http://") + "/team/cache:index-1")
	if err != nil {
		t.Fatal(err)
	}
	folder := layercache.Folder(t.TempDir())
	pulled, err := layercache.Pull(t.Context(), w.client, index, folder, ttl, w.now)
	if err == nil || len(pulled) != 0 {
		t.Errorf("got %v, %v", pulled, err)
	}
	if _, err := os.Stat(w.entry(folder, keyOf("a"))); err == nil {
		t.Error("kaniko would find it")
	}
}
