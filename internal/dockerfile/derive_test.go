package dockerfile

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestDerive derives each case in testdata: a folder with a Dockerfile, where
// needed options.json, and what comes of it: Dockerfile.golden and
// report.golden, or error.golden.
func TestDerive(t *testing.T) {
	t.Parallel()
	testFolders(t, "testdata/derive")
}

// TestWild derives Dockerfiles of the makes that people write.
func TestWild(t *testing.T) {
	t.Parallel()
	testFolders(t, "../../test/e2e/testdata/wild")
}

func testFolders(t *testing.T, root string) {
	t.Helper()
	folders, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		t.Run(folder.Name(), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(root, folder.Name())
			source, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			derived, pins, err := derive(t.Context(), source, caseOptions(t, dir))
			if err != nil {
				var finding *Error
				if !errors.As(err, &finding) {
					t.Errorf("%T, want *Error", err)
				}
				got["error.golden"] = err.Error() + "\n"
			} else {
				got["Dockerfile.golden"] = string(derived.Content)
				got["report.golden"] = report(derived, pins)
			}
			for _, name := range []string{"Dockerfile.golden", "report.golden", "error.golden"} {
				compare(t, filepath.Join(dir, name), got[name])
			}
		})
	}
}

// mounted is what a TaskRun's step has mounted.
var mounted = []string{"/workspace", "/workspace/source", "/tekton/run", "/tekton", "/var/run", "/slipway", "/kaniko", "/dev", "/proc", "/sys"}

func caseOptions(t *testing.T, dir string) Options {
	o := Options{Platform: "linux/amd64", Mounted: mounted, ModCache: "/go/pkg/mod"}
	text, err := os.ReadFile(filepath.Join(dir, "options.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return o
	}
	var given struct {
		Target    string                 `json:"target"`
		BuildArgs map[string]string      `json:"buildArgs"`
		Platform  string                 `json:"platform"`
		Bases     map[string]ImageConfig `json:"bases"`   // by image
		Context   []string               `json:"context"` // the only paths of it
		Secrets   []string               `json:"secrets"`
	}
	if err := errors.Join(err, json.Unmarshal(text, &given)); err != nil {
		t.Fatal(err)
	}
	o.Target, o.BuildArgs, o.Secrets = given.Target, given.BuildArgs, given.Secrets
	o.Config = func(_ context.Context, ref string) (*ImageConfig, error) {
		if base, ok := given.Bases[ref[:strings.IndexAny(ref, ":@")]]; ok {
			return &base, nil
		}
		return nil, nil
	}
	if given.Context != nil {
		o.Has = func(path string) bool {
			return slices.ContainsFunc(given.Context, func(file string) bool { return within(file, path) })
		}
		o.Source = func(path string) *SourceError {
			if slices.Contains(given.Context, path) {
				return nil
			}
			return &SourceError{Problem: "the build context has no such file", Fix: "add it"}
		}
	}
	if given.Platform != "" {
		o.Platform = given.Platform
	}
	return o
}

// derive parses and derives, with digests made from the image's name and
// platform. pins are the images asked for, in alphabetical order.
func derive(ctx context.Context, source []byte, o Options) (d *Derived, pins []string, err error) {
	f, err := Parse("Dockerfile", source)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	o.Pin = func(_ context.Context, image, platform string) (string, error) {
		mu.Lock()
		pins = append(pins, image+" "+platform)
		mu.Unlock()
		repository, _, _ := strings.Cut(image, "@")
		if tag := strings.LastIndex(repository, ":"); tag > strings.LastIndex(repository, "/") {
			repository = repository[:tag]
		}
		return fmt.Sprintf("%s@sha256:%.4x", repository, sha256.Sum256([]byte(image+platform))), nil
	}
	d, err = f.Derive(ctx, o)
	slices.Sort(pins)
	return d, pins, err
}

func report(d *Derived, pins []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "target %q\n", d.Target)
	fmt.Fprintf(&b, "args %s\n", strings.Join(slices.Sorted(maps.Keys(d.Args)), " "))
	if len(d.Secrets) > 0 {
		fmt.Fprintf(&b, "secrets %s\n", strings.Join(d.Secrets, " "))
	}
	for _, pin := range pins {
		fmt.Fprintf(&b, "pinned %s\n", pin)
	}
	for _, c := range d.Changes {
		fmt.Fprintf(&b, "change %d: %s -> %s: %s\n", c.Line, c.Old, c.New, c.Why)
	}
	if d.Modules != nil {
		fmt.Fprintf(&b, "modules of the image: %s\n", d.Modules)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "note %d: %s\n", n.Line, n.Text)
	}
	return b.String()
}

// compare holds got against a golden file, which must be missing for "".
func compare(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		err := os.Remove(golden)
		if got != "" {
			err = os.WriteFile(golden, []byte(got), 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}
