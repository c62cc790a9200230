package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/inputs"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/registry"
)

// replan changes the plan that prepare has left.
func (b *built) replan(t *testing.T, change func(*plan.Plan)) {
	t.Helper()
	p, err := plan.Read(b.path("prepared"))
	if err != nil {
		t.Fatal(err)
	}
	change(p)
	if err := p.Write(b.path("prepared")); err != nil {
		t.Fatal(err)
	}
}

var madeOf = inputs.List{{Kind: inputs.File, Name: "main.go", Value: "1"}}

// recorded has push record what the image was built from.
func (b *built) recorded(t *testing.T, repository string) {
	t.Helper()
	file := b.path("prepared/inputs.json")
	if err := inputs.New(madeOf).Leave(file); err != nil {
		t.Fatal(err)
	}
	b.replan(t, func(p *plan.Plan) {
		p.Record = &plan.Record{Repository: repository, Last: "slipway-inputs-last-of-it", File: file}
	})
}

// taken has push take an image that is there.
func (b *built) taken(t *testing.T, digest v1.Hash) {
	t.Helper()
	b.replan(t, func(p *plan.Plan) {
		p.Unchanged = &plan.Unchanged{Digest: digest.String(), Built: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), By: "team/first"}
		p.Layout = b.path("no-such-layout")
	})
}

func (b *built) mustRun(t *testing.T) string {
	t.Helper()
	code, stderr := b.run(t)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	return stderr
}

func tagOf(t *testing.T, ref string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func store(t *testing.T, ref string) v1.Hash {
	t.Helper()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tagOf(t, ref), img); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		tag   string
		moved int32
	}{
		"with the tag":       {"first", 0},
		"without the tag":    {"v2", 1},
		"with another's tag": {"other", 1},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var uploads, manifests atomic.Int32
			host := serve(t, func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/blobs/uploads") {
					uploads.Add(1)
				}
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
					manifests.Add(1)
				}
				return false
			})
			digest := store(t, host+"/feed-agg:first")
			store(t, host+"/feed-agg:other")
			uploads.Store(0)
			manifests.Store(0)
			b := newBuilt(t, host+"/feed-agg:"+tc.tag)
			b.recorded(t, host+"/feed-agg")
			b.taken(t, digest)
			must(t, os.Chtimes(b.path("prepared/plan.json"), time.Time{}, time.Now().Add(-2*time.Second)))
			if stderr := b.mustRun(t); !strings.Contains(stderr, "build: none, as nothing has changed; ") || !strings.Contains(stderr, "between steps ") {
				t.Error(stderr)
			}
			results := b.results(t)
			if results["IMAGE_URL"] != host+"/feed-agg:"+tc.tag || results["IMAGE_DIGEST"] != digest.String() {
				t.Errorf("results %q", results)
			}
			if want := `"compiled":null,"cached":null,"modules":null,"unchanged":{"built":"2026-01-02T03:04:05Z","by":"team/first"}}`; !strings.HasSuffix(results["build-report"], want) {
				t.Errorf("build-report %s, want …%s", results["build-report"], want)
			}
			named, err := remote.Head(tagOf(t, host+"/feed-agg:"+tc.tag))
			if err != nil || named.Digest != digest {
				t.Errorf("the tag names %v, %v", named, err)
			}
			// Neither a blob nor a record, and no tag that need not move.
			if uploads.Load() > 0 || manifests.Load() != tc.moved {
				t.Errorf("%d uploads, %d manifests, want 0 and %d", uploads.Load(), manifests.Load(), tc.moved)
			}
		})
	}
}

func TestUnchangedButGone(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	b := newBuilt(t, host+"/feed-agg:v1")
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("1", 64)}
	b.taken(t, digest)
	b.mustFail(t, 1, "push "+host+"/feed-agg:v1: file does not exist: "+host+"/feed-agg@"+digest.String()+": it was there when the step prepare looked; run the task again, and it is built")
}

// found is the record that a build of the same inputs finds.
func found(t *testing.T, repository string) *inputs.Record {
	t.Helper()
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	content, err := client.Artifact(t.Context(), inputs.Tag(tagOf(t, repository).Repository, madeOf.Digest()), inputs.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	record, err := inputs.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestRecord(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	b := newBuilt(t, host+"/feed-agg:v1")
	b.recorded(t, host+"/records")
	if stderr := b.mustRun(t); strings.Contains(stderr, "will not know") {
		t.Error(stderr)
	}
	record := found(t, host+"/records")
	if record.Image != b.digest.String() || record.Inputs != madeOf.Digest() || record.By != "team/feed-agg-build" || time.Since(record.Built) > time.Hour {
		t.Errorf("the record is %+v", record)
	}
	last, err := remote.Head(tagOf(t, host+"/records:slipway-inputs-last-of-it"))
	if err != nil {
		t.Fatal(err)
	}
	if this, err := remote.Head(inputs.Tag(tagOf(t, host+"/records").Repository, madeOf.Digest())); err != nil || this.Digest != last.Digest {
		t.Errorf("the record is %v, the last %v, %v", this, last, err)
	}
}

// What the first destination has is recorded, so that a push that fails at the
// next is tried again with this image, and not with another build.
func TestRecordOfAPushThatFailsHalfway(t *testing.T) {
	t.Parallel()
	host := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/manifests/v2") {
			return false
		}
		w.WriteHeader(http.StatusInsufficientStorage)
		return true
	})
	b := newBuilt(t, host+"/feed-agg:v1")
	b.recorded(t, host+"/feed-agg")
	b.replan(t, func(p *plan.Plan) { p.Tags = []string{"v2"} })
	b.mustFail(t, 1, "push "+host+"/feed-agg:v2: registry "+host+": 507, Insufficient Storage")
	if record := found(t, host+"/feed-agg"); record.Image != b.digest.String() {
		t.Errorf("the record is %+v", record)
	}
}

// The image is pushed, and a registry that takes no record costs a line.
func TestRecordThatCannotBeKept(t *testing.T) {
	t.Parallel()
	mine := tagPath(inputs.New(madeOf).Inputs)
	for title, tc := range map[string]struct {
		before func(http.ResponseWriter, *http.Request) bool
		says   string
	}{
		"refused": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, mine) {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		}, "registry HOST refused to push feed-agg (403, Forbidden)"},
		"a type that the registry does not take": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, mine) {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			if err := json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "MANIFEST_INVALID", "message": "unknown artifact"}}}); err != nil {
				t.Error(err)
			}
			return true
		}, "registry HOST: 400, MANIFEST_INVALID: unknown artifact"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			host := serve(t, tc.before)
			b := newBuilt(t, host+"/feed-agg:v1")
			b.recorded(t, host+"/feed-agg")
			stderr := b.mustRun(t)
			if want := "the next build from the same inputs will not know of this one: " + strings.Replace(tc.says, "HOST", host, 1); !strings.Contains(stderr, want) {
				t.Errorf("no %q in\n%s", want, stderr)
			}
			if results := b.results(t); results["IMAGE_DIGEST"] != b.digest.String() {
				t.Errorf("results %q", results)
			}
		})
	}
}

func tagPath(inputs string) string { return "/manifests/slipway-inputs-" + inputs }

// A tag that is somebody's own stays.
func TestRecordOverSomethingElse(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	tag := inputs.Tag(tagOf(t, host+"/feed-agg").Repository, madeOf.Digest())
	digest := store(t, tag.Name())
	b := newBuilt(t, host+"/feed-agg:v1")
	b.recorded(t, host+"/feed-agg")
	if stderr := b.mustRun(t); !strings.Contains(stderr, "will not know of this one: "+tag.Name()+": it is something else") {
		t.Error(stderr)
	}
	if named, err := remote.Head(tag); err != nil || named.Digest != digest {
		t.Errorf("the tag names %v, %v", named, err)
	}
}

// Two builds of the same inputs at the same time both succeed, and what is
// recorded is one of their images.
func TestTwoRecordsAtOnce(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	builds := []*built{newBuilt(t, host+"/feed-agg:v1"), newBuilt(t, host+"/feed-agg:v2")}
	var runs sync.WaitGroup
	for _, b := range builds {
		b.recorded(t, host+"/feed-agg")
		runs.Go(func() {
			if code, stderr := b.run(t); code != 0 || strings.Contains(stderr, "will not know") {
				t.Errorf("exit code %d\n%s", code, stderr)
			}
		})
	}
	runs.Wait()
	if image := found(t, host+"/feed-agg").Image; image != builds[0].digest.String() && image != builds[1].digest.String() {
		t.Errorf("recorded is %s", image)
	}
}
