package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/step/steptest"
)

// tagged gives the plan tags.
func (b *built) tagged(t *testing.T, tags ...string) {
	t.Helper()
	p := plan.Plan{Started: time.Now(), Layout: b.path("layout"), Compiled: b.path("go/compiled.json"), Tags: tags}
	must(t, p.Write(b.path("prepared")))
}

func (b *built) array(name string, values ...string) {
	b.args = steptest.Array(b.args, name, values...)
}

// Layers are sent once to a repository, however many tags it gets.
func TestSeveralDestinations(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	requests := map[string]int{}
	host := serve(t, func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, repository := range []string{"app", "mirror"} {
			switch {
			case !strings.HasPrefix(r.URL.Path, "/v2/"+repository+"/"):
			case r.Method == http.MethodPatch:
				requests[repository+" blob"]++
			case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/"):
				requests[repository+" tag"]++
			}
		}
		return false
	})
	b := newBuilt(t, host+"/app")
	b.tagged(t, "v1", "v1-edge", "latest")
	b.array("--destinations", host+"/mirror:v1")
	code, stderr := b.run(t)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	urls := []string{host + "/app:v1", host + "/app:v1-edge", host + "/app:latest", host + "/mirror:v1"}
	results := b.results(t)
	if want := `["` + strings.Join(urls, `","`) + `"]`; results["image-urls"] != want || results["IMAGE_URL"] != urls[0] {
		t.Errorf("results %q, want %s", results, want)
	}
	for _, url := range urls {
		ref, err := name.ParseReference(url)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remote.Head(ref); err != nil || got.Digest != b.digest {
			t.Errorf("%s: %v, %v", url, got, err)
		}
		if !strings.Contains(stderr, "push "+url+"@"+b.digest.String()+"\n") {
			t.Errorf("%s is not in the log:\n%s", url, stderr)
		}
	}
	// Two layers and a configuration; all of this registry's repositories have
	// the blobs of each.
	if got, want := fmt.Sprint(requests), "map[app blob:3 app tag:3 mirror tag:1]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestATagThatFailsLeavesNoResult(t *testing.T) {
	t.Parallel()
	host := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/manifests/v2") {
			return false
		}
		w.WriteHeader(http.StatusInsufficientStorage)
		return true
	})
	b := newBuilt(t, host+"/app")
	b.tagged(t, "v1", "v2")
	b.mustFail(t, step.ExitFailed, fmt.Sprintf("push %s/app:v2: registry %s: 507, Insufficient Storage", host, host))
}

// What came between since prepare asked is seen, unless it is the same image.
func TestATagThatMustNotMove(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	b := newBuilt(t, host+"/app:v1")
	b.array("--immutable-tags", "v*")
	for range 2 {
		if code, stderr := b.run(t); code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
	}
	for path := range b.results(t) {
		must(t, os.Remove(b.path("results/"+path)))
	}
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(host + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	must(t, remote.Write(tag, img))
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	b.mustFail(t, step.ExitBadInput, fmt.Sprintf("push %s: param immutable-tags: %s is %s already, and must not move; give the image another tag", tag, tag, digest))
	if got, err := remote.Head(tag); err != nil || got.Digest != digest {
		t.Errorf("the tag moved to %v, %v", got, err)
	}
}
