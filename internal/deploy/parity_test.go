package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestParity renders each file of testdata/parity, a tree of its own, and
// compares that byte for byte with what the kustomize command of the library's
// version (test/tools/go.mod) builds: as it is, and with an image and a
// namespace set by `kustomize edit`.
func TestParity(t *testing.T) {
	t.Parallel()
	kustomize := buildKustomize(t)
	cases, err := filepath.Glob("testdata/parity/*.txt")
	if err != nil || len(cases) < 25 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			source := unpack(t, file)
			overlay := filepath.Join(source, "overlay")
			run := func(args ...string) string {
				cmd := exec.CommandContext(t.Context(), kustomize, args...)
				cmd.Dir = overlay
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); err != nil {
					t.Fatalf("kustomize %s: %v\n%s", args, err, errs.String())
				}
				return out.String()
			}
			compare := func(images []image, namespace string) {
				t.Helper()
				made, err := render(source, []string{"overlay"}, images, nil, namespace)
				if err != nil {
					t.Fatal(err)
				}
				got, err := manifests(made.objects)
				if err != nil {
					t.Fatal(err)
				}
				if images != nil {
					run("edit", "set", "image", "app="+images[0].String())
					run("edit", "set", "namespace", namespace)
				}
				want := run("build", "--reorder=legacy", "--load-restrictor=LoadRestrictionsNone", ".")
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("kustomize (-), rendered (+):\n%s", diff)
				}
			}
			compare(nil, "")
			made, err := render(source, []string{"overlay"}, nil, nil, "")
			if err != nil {
				t.Fatal(err)
			}
			set := []image{{name: "app", repository: "r.test/team/app", digest: digestA}}
			if used := checkUsed(set, made.objects); used == nil || strings.Contains(used.Error(), "is still app:") {
				compare(set, "set")
			}
		})
	}
}

func buildKustomize(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "kustomize")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "sigs.k8s.io/kustomize/kustomize/v5")
	cmd.Dir = "../../test/tools"
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build kustomize: %v\n%s", err, output)
	}
	return binary
}

var fileName = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

// unpack writes the files of a tree: each is announced by "-- name --".
func unpack(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	names := fileName.FindAllSubmatchIndex(content, -1)
	for i, at := range names {
		end := len(content)
		if i+1 < len(names) {
			end = names[i+1][0]
		}
		path := filepath.Join(dir, string(content[at[2]:at[3]]))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content[at[1]:end], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
