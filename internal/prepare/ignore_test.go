package prepare

import (
	"bytes"
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/slipway-ci/slipway/internal/dockerfile"
)

// kaniko's rule (pkg/util/fs_util.go, ExcludesFile) with the derived file gives
// what the patterns give that the user has, each path by itself. What Docker has
// may differ where a folder is an exception: internal/buildcontext.
func FuzzIgnoreForKaniko(f *testing.F) {
	files := []string{"a", "a/b", "a/b/c/d.go", "vendor/x/y.go", "x/node_modules/y/z.js", "node_modules/y/z/keep.js", "x/y/testdata/a/b.txt", "#notes", ".git/objects/ab/cd", "Dockerfile", "a b"}
	for _, content := range []string{
		"", "*", "*\n!a\n", "**/node_modules\n", "**/node_modules\n!**/keep.js", "**/testdata/**\n", "vendor\n!vendor/x", "**\n!**/b",
		" #notes\n", "# comment\n.git\n", "a/**/d.go", "\ufeffvendor\n", "/a/b/\n", "./\n", "**/*.go\n!x", "a*\n!a/b/c", "!**/node_modules/y\n**/y", "..\n",
	} {
		f.Add(content, strings.Join(files, "\n"))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content, names string) {
		source, err := openContext(dir, ".dockerignore", []byte(content))
		if err != nil {
			var finding *dockerfile.Error
			if !errors.As(err, &finding) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		docker := source.Patterns()
		forKaniko := ignoreForKaniko(docker)
		kaniko, err := ignorefile.ReadAll(bytes.NewReader(forKaniko))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Split(names, "\n") {
			if name = strings.TrimLeft(path.Clean("/"+name), "/"); name == "" {
				continue
			}
			want, err := patternmatcher.MatchesOrParentMatches(name, docker)
			if err != nil {
				continue
			}
			got, err := patternmatcher.Matches(name, kaniko)
			if err != nil || got != want {
				t.Errorf("%q with\n%s\nis left out: %t (%v), Docker: %t", name, forKaniko, got, err, want)
			}
		}
	})
}
