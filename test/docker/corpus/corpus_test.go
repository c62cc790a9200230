package corpus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestShapes has both front ends read Dockerfiles of the shapes that public ones
// have, and makes cases of them, which the tests of the level docker build.
func TestShapes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../testdata/shapes/*.Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d Dockerfiles, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".Dockerfile"), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := Derive(t.Context(), content)
			if d.BuildKit+d.Refused+d.Panic != "" {
				t.Fatalf("%+v", d)
			}
			dir := filepath.Join(t.TempDir(), "context")
			if _, err := Make(t.Context(), content, d.Args, dir); err != nil {
				t.Fatal(err)
			}
			made, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
			if err != nil {
				t.Fatal(err)
			}
			if d := Derive(t.Context(), made); d.BuildKit+d.Refused+d.Panic != "" {
				t.Errorf("the case: %+v\n%s", d, made)
			}
		})
	}
}

// TestKinds counts reasons without what is particular to one Dockerfile.
func TestKinds(t *testing.T) {
	t.Parallel()
	got := Reasons([]string{`Dockerfile:3: ADD "a" to /x`, `Dockerfile:44: ADD "b" to /y/z`, "something else"})
	if len(got) != 2 || !strings.HasPrefix(got[0], "    2  Dockerfile:3:") {
		t.Errorf("%q", got)
	}
}
