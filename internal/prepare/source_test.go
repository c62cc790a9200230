package prepare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/dockerfile"
)

// newSource is a build context of files; "a -> b" is a symbolic link.
func newSource(t *testing.T, ignore string, names ...string) *source {
	t.Helper()
	folder := t.TempDir()
	for _, name := range names {
		name, link, isLink := strings.Cut(name, " -> ")
		if err := os.MkdirAll(filepath.Join(folder, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(link, filepath.Join(folder, name))
		} else {
			err = os.WriteFile(filepath.Join(folder, name), nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	context, err := openContext(folder, "app/.dockerignore", []byte(ignore))
	if err != nil {
		t.Fatal(err)
	}
	return &source{context: context, ignore: "app/.dockerignore"}
}

func TestSourceHas(t *testing.T) {
	t.Parallel()
	for _, ignore := range []string{"", "ignored\nemptied/**\npartly/*\n!partly/b.txt\nlink\n"} {
		s := newSource(t, ignore, "rootfs/etc/app.conf", "rootfs/workspace/a.txt", "ignored/a.txt", "emptied/a.txt", "partly/a.txt", "partly/b.txt",
			"link -> rootfs", "led -> rootfs/workspace", "astray -> ignored", "away -> ../..", "broken -> absent")
		if err := os.Mkdir(filepath.Join(s.context.Dir(), "empty"), 0o755); err != nil {
			t.Fatal(err)
		}
		all := ignore == ""
		for name, want := range map[string]bool{
			"rootfs/workspace": true, "rootfs/etc/app.conf": true, "rootfs": true, "partly": true, ".": true,
			"absent": false, "rootfs/absent/deeper": false, "rootfs/etc/app.conf/deeper": false, "empty": false,
			"ignored": all, "ignored/a.txt": all, "emptied": all, "partly/a.txt": all,
			"led/a.txt": true, "led": true, "link": all, "link/workspace": all, "astray/a.txt": all, "away": true, "broken": false, "..": true,
		} {
			if got := s.has(name); got != want {
				t.Errorf("with .dockerignore %t, has %s: %t", !all, name, got)
			}
		}
	}
}

func TestSourceCheck(t *testing.T) {
	t.Parallel()
	s := newSource(t, "# some\n/docs\n!docs/api\nvendor\n!README.md\n**/*.md\nlink\n\na/*/c\n!a/b\n",
		"README.md", "docs/x/a", "docs/api/b", "vendor/a", "main.go", "a/b/c/x", "a/b/d", "link -> docs", "led -> a/b", "away -> ../..")
	out := func(line, name string) *dockerfile.SourceError {
		return &dockerfile.SourceError{Problem: "app/.dockerignore:" + line + " leaves it out of the build context", Fix: "add a line !" + name + " at its end"}
	}
	for name, want := range map[string]*dockerfile.SourceError{
		".": nil, "/": nil, "main.go": nil, "/main.go": nil, "docs": nil, "docs/": nil, "docs/api/b": nil, "a/b/d": nil, "led/d": nil, "led": nil, "away": nil,
		"docs/x": out("2", "docs/x"), "docs/x/a": out("2", "docs/x/a"), "./vendor": out("4", "vendor"), "vendor/a": out("4", "vendor/a"),
		"README.md": out("6", "README.md"), "a/b/c": out("9", "a/b/c"), "a/b/c/x": out("9", "a/b/c/x"), "led/c/x": out("9", "a/b/c/x"),
		"link": out("7", "link"), "link/api/b": out("7", "link/api/b"),
		"absent": {Problem: "the build context has no such file or folder", Fix: "add it, or set the param context to the folder that has it"},
		"away/x": {Problem: "path escapes from parent", Fix: "a symbolic link on the way leads out of the build context: put the files themselves there"},
	} {
		if diff := cmp.Diff(want, s.check(name)); diff != "" {
			t.Errorf("%s: wanted (-), is (+):\n%s", name, diff)
		}
	}
}
