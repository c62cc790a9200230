package inputs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/buildcontext"
	"github.com/slipway-ci/slipway/internal/inputs"
)

// folder is a build context of a test.
type folder string

func newFolder(t testing.TB, files map[string]string) folder {
	t.Helper()
	f := folder(t.TempDir())
	for name, content := range files {
		f.write(t, name, content)
	}
	return f
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) write(t testing.TB, name, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	must(t, os.WriteFile(f.path(name), []byte(content), 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f folder) digest(t testing.TB, ignored []string, paths ...string) string {
	t.Helper()
	return f.list(t, ignored, paths...).Digest()
}

func (f folder) list(t testing.TB, ignored []string, paths ...string) inputs.List {
	t.Helper()
	files, err := buildcontext.Open(string(f), []byte(strings.Join(ignored, "\n")))
	must(t, err)
	list, err := inputs.Context{Files: files, Paths: paths}.List(t.Context())
	must(t, err)
	return list
}

func TestWhatCountsOfAContext(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"main.go": "package main", "cmd/server/main.go": "package main", "cmd/worker/main.go": "package main",
		".git/HEAD": "a commit", ".git/modules/lib/x/HEAD": "a commit", ".git/modules/lib/x/refs/remotes/origin/HEAD": "a branch",
		".git/modules/lib/objects/HEAD": "a commit", ".git/modules/lib/objects/refs/heads/main": "a branch",
		"README.md": "read me", "docs/a.md": "a", "docs/deep/b.md": "b", "conf.yaml": "x: 1", "empty/.keep": "",
	}
	write := func(name, content string) func(*testing.T, folder) {
		return func(t *testing.T, f folder) { t.Helper(); f.write(t, name, content) }
	}
	link := func(target, name string) func(*testing.T, folder) {
		return func(t *testing.T, f folder) {
			t.Helper()
			must(t, os.RemoveAll(f.path(name)))
			must(t, os.Symlink(target, f.path(name)))
		}
	}
	everything := []string{"."}
	for name, tc := range map[string]struct {
		paths  []string
		ignore []string
		before func(*testing.T, folder)
		change func(*testing.T, folder)
		counts bool
	}{
		"content": {paths: everything, change: write("main.go", "package other"), counts: true},
		"another content of the same size and time": {
			paths: everything, counts: true,
			change: func(t *testing.T, f folder) {
				info, err := os.Stat(f.path("main.go"))
				must(t, err)
				f.write(t, "main.go", "package Main")
				must(t, os.Chtimes(f.path("main.go"), info.ModTime(), info.ModTime()))
			},
		},
		"a new file":         {paths: everything, change: write("new", ""), counts: true},
		"a file less":        {paths: everything, change: func(t *testing.T, f folder) { must(t, os.Remove(f.path("conf.yaml"))) }, counts: true},
		"another name":       {paths: everything, change: func(t *testing.T, f folder) { must(t, os.Rename(f.path("main.go"), f.path("Main.go"))) }, counts: true},
		"another folder":     {paths: everything, change: func(t *testing.T, f folder) { must(t, os.Rename(f.path("docs"), f.path("doc"))) }, counts: true},
		"an empty folder":    {paths: everything, change: func(t *testing.T, f folder) { must(t, os.Mkdir(f.path("void"), 0o755)) }, counts: true},
		"mode":               {paths: everything, change: func(t *testing.T, f folder) { must(t, os.Chmod(f.path("main.go"), 0o755)) }, counts: true},
		"mode of a folder":   {paths: everything, change: func(t *testing.T, f folder) { must(t, os.Chmod(f.path("docs"), 0o700)) }, counts: true},
		"a set-user-id bit":  {paths: everything, change: func(t *testing.T, f folder) { must(t, os.Chmod(f.path("main.go"), 0o644|os.ModeSetuid)) }, counts: true},
		"a link for a file":  {paths: everything, change: link("cmd/server/main.go", "main.go"), counts: true},
		"where a link leads": {paths: everything, before: link("README.md", "l"), change: link("main.go", "l"), counts: true},
		"a pipe":             {paths: everything, before: write("p", ""), change: link("nowhere", "p"), counts: true},
		"times": {paths: everything, change: func(t *testing.T, f folder) {
			must(t, os.Chtimes(f.path("main.go"), time.Unix(1, 0), time.Unix(2, 0)))
			must(t, os.Chtimes(f.path("docs"), time.Unix(1, 0), time.Unix(2, 0)))
		}},
		"written anew": {paths: everything, change: func(t *testing.T, f folder) {
			must(t, os.Remove(f.path("main.go")))
			f.write(t, "main.go", "package main")
		}},

		"left out":                       {paths: everything, ignore: []string{"*.md"}, change: write("README.md", "changed")},
		"in a folder left out":           {paths: everything, ignore: []string{"docs"}, change: write("docs/deep/c", "new")},
		"an exception":                   {paths: everything, ignore: []string{"docs", "!docs/a.md"}, change: write("docs/a.md", "changed"), counts: true},
		"beside an exception":            {paths: everything, ignore: []string{"docs", "!docs/a.md"}, change: write("docs/deep/b.md", "changed")},
		"beside what is left out":        {paths: everything, ignore: []string{"docs"}, change: write("conf.yaml", "x: 2"), counts: true},
		"an exception, deep":             {paths: everything, ignore: []string{"**", "!**/b.md"}, change: write("docs/deep/b.md", "changed"), counts: true},
		"what is left out by a new rule": {paths: everything, ignore: []string{"*.md"}, change: write("docs/z.md", "new"), counts: true}, // *.md is of the root

		"what its folder's exception leaves out":   {paths: everything, ignore: []string{"docs/*/b.md", "!docs/deep"}, change: write("docs/deep/b.md", "changed")},
		"beside what an exception leaves out":      {paths: everything, ignore: []string{"docs/*/b.md", "!docs/deep"}, change: write("docs/deep/c.md", "new"), counts: true},
		"of a kind that is left out everywhere":    {paths: everything, ignore: []string{"**/*.md", "!docs"}, change: write("docs/a.md", "changed")},
		"of another kind in a folder brought back": {paths: everything, ignore: []string{"**/*.md", "!docs"}, change: write("docs/a.txt", "new"), counts: true},
		"mode of a folder that is left out":        {paths: everything, ignore: []string{"docs", "!docs/deep/b.md", "empty", "!empty/b"}, change: func(t *testing.T, f folder) { must(t, os.Chmod(f.path("empty"), 0o700)) }},
		"mode of a folder for an exception":        {paths: everything, ignore: []string{"docs", "!docs/deep/b.md"}, change: func(t *testing.T, f folder) { must(t, os.Chmod(f.path("docs"), 0o700)) }, counts: true},

		"in a folder that is copied":      {paths: []string{"cmd"}, change: write("cmd/server/new.go", ""), counts: true},
		"in another folder":               {paths: []string{"cmd"}, change: write("docs/a.md", "changed")},
		"a name that starts alike":        {paths: []string{"cmd"}, change: write("cmd2/new.go", "")},
		"a file that is copied":           {paths: []string{"conf.yaml", "cmd"}, change: write("conf.yaml", "x: 2"), counts: true},
		"beside a file that is copied":    {paths: []string{"conf.yaml"}, change: write("main.go", "package other")},
		"of a pattern":                    {paths: []string{"*.go"}, change: write("main.go", "package other"), counts: true},
		"new of a pattern":                {paths: []string{"*.go"}, change: write("new.go", ""), counts: true},
		"not of a pattern":                {paths: []string{"*.go"}, change: write("README.md", "changed")},
		"deep in a folder of a pattern":   {paths: []string{"d?cs"}, change: write("docs/deep/b.md", "changed"), counts: true},
		"of a pattern with folders":       {paths: []string{"cmd/*/main.go"}, change: write("cmd/worker/main.go", "package other"), counts: true},
		"not of a pattern with folders":   {paths: []string{"cmd/*/main.go"}, change: write("cmd/worker/other.go", "")},
		"a star is the root as well":      {paths: []string{"*"}, change: write("docs/deep/b.md", "changed"), counts: true},
		"a pattern that cannot be read":   {paths: []string{"[a"}, change: write("README.md", "changed"), counts: true},
		"behind a link that is copied":    {paths: []string{"l"}, before: link("docs", "l"), change: write("docs/a.md", "changed"), counts: true},
		"behind a link on the way":        {paths: []string{"l/a.md"}, before: link("docs", "l"), change: write("docs/a.md", "changed"), counts: true},
		"behind a link of a pattern":      {paths: []string{"l*"}, before: link("docs", "link"), change: write("docs/a.md", "changed"), counts: true},
		"beside a link in what is copied": {paths: []string{"cmd"}, before: link("../docs", "cmd/l"), change: write("docs/a.md", "changed")},
		"what differs in each clone":      {paths: everything, change: write(".git/index", "other times")},
		"objects that nothing names":      {paths: everything, change: write(".git/objects/pack/x.pack", "x")},
		"another commit":                  {paths: everything, change: write(".git/HEAD", "another"), counts: true},
		"another tag":                     {paths: everything, change: write(".git/refs/tags/v1", "x"), counts: true},
		"a file of git's that is copied":  {paths: []string{".git/index"}, change: write(".git/index", "other times"), counts: true},
		"a submodule's objects":           {paths: everything, change: write(".git/modules/lib/x/objects/pack/x.pack", "x")},
		"a submodule's index":             {paths: everything, change: write(".git/modules/lib/x/index", "other times")},
		"a submodule's commit":            {paths: everything, change: write(".git/modules/lib/x/HEAD", "another"), counts: true},
		"a submodule of such a name":      {paths: everything, change: write(".git/modules/lib/objects/HEAD", "another"), counts: true},
		"a submodule's branch":            {paths: everything, change: write(".git/modules/lib/x/refs/remotes/origin/index", "another"), counts: true},
		"what only looks like git's":      {paths: everything, change: write("x/.git/index", "x"), counts: true},
		"nothing is copied":               {paths: nil, change: write("main.go", "package other")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, files)
			if tc.before != nil {
				tc.before(t, f)
			}
			before := f.digest(t, tc.ignore, tc.paths...)
			tc.change(t, f)
			if after := f.digest(t, tc.ignore, tc.paths...); (after != before) != tc.counts {
				t.Errorf("it counts: %t, want %t", after != before, tc.counts)
			}
		})
	}
}

// Two clones of a commit are one context, whatever else there is by now, with
// submodules too; that of another commit is another.
func TestTheSameInAnotherPlace(t *testing.T) {
	t.Parallel()
	git := func(dir folder, args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", string(dir), "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.file.allow=always"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	repository := func(files map[string]string, submodules map[string]folder) folder {
		dir := newFolder(t, files)
		git(dir, "init", "-q", "-b", "main")
		git(dir, "config", "uploadpack.allowAnySHA1InWant", "true")
		git(dir, "add", ".")
		for path, of := range submodules {
			git(dir, "submodule", "--quiet", "add", "file://"+string(of), path)
		}
		git(dir, "commit", "-qm", "one")
		return dir
	}
	inner := repository(map[string]string{"i": "1"}, nil)
	lib := repository(map[string]string{"l": "1"}, map[string]folder{"deep/inner": inner})
	plain := repository(map[string]string{"a": "1", "b/c": "2", "b/d": "3"}, nil)
	with := repository(map[string]string{"a": "1"}, map[string]folder{"third/lib": lib})
	for _, dir := range []folder{inner, lib} { // what is fetched is not what their branch is at
		git(dir, "commit", "-q", "--allow-empty", "-m", "two")
	}
	for name, origin := range map[string]folder{"no submodules": plain, "submodules": with} {
		clone := func() folder { // as git-clone does it
			dir := newFolder(t, nil)
			git(dir, "init", "-q")
			git(dir, "fetch", "-q", "--depth=1", string(origin), "main")
			git(dir, "checkout", "-q", "-f", "FETCH_HEAD")
			git(dir, "submodule", "--quiet", "sync", "--recursive")
			git(dir, "submodule", "--quiet", "update", "--init", "--recursive", "--force", "--depth=1")
			return dir
		}
		one, other := clone(), clone()
		must(t, os.Chtimes(other.path("a"), time.Unix(1, 0), time.Unix(1, 0)))
		git(other, "update-index", "-q", "--really-refresh")
		if origin == with {
			must(t, os.Chtimes(other.path("third/lib/l"), time.Unix(1, 0), time.Unix(1, 0)))
			git(other, "submodule", "--quiet", "foreach", "--recursive", "git update-index -q --really-refresh; git repack -qadn; git update-ref ORIG_HEAD HEAD; GIT_COMMITTER_DATE='1 +0000' git checkout -q --detach")
		}
		if diff := cmp.Diff(one.list(t, nil, "."), other.list(t, nil, ".")); diff != "" {
			t.Errorf("%s: one clone has (-), the other (+):\n%s", name, diff)
		}
		if origin == with {
			continue
		}
		git(origin, "commit", "-q", "--allow-empty", "-m", "two")
		if before, after := one.digest(t, nil, "."), clone().digest(t, nil, "."); before == after {
			t.Error("another commit, which go build -buildvcs writes into programs, does not count")
		}
	}
}

// What cannot be read cannot be known to be the same.
func TestWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFolder(t, map[string]string{"a": "1"})
	files, err := buildcontext.Open(string(f), nil)
	must(t, err)
	must(t, os.RemoveAll(string(f)))
	if _, err := (inputs.Context{Files: files, Paths: []string{"."}}).List(t.Context()); err == nil {
		t.Error("a context that is gone has a list")
	}
}

func BenchmarkContext(b *testing.B) {
	for _, size := range []struct{ files, bytes int }{{1000, 8 << 10}, {16, 64 << 20}} {
		b.Run(fmt.Sprintf("%d files of %d KiB", size.files, size.bytes>>10), func(b *testing.B) {
			f := newFolder(b, nil)
			content := make([]byte, size.bytes)
			for i := range size.files {
				content[i%len(content)]++
				f.write(b, fmt.Sprintf("folder-%d/in/folder/file-%d.go", i%50, i), string(content))
			}
			b.SetBytes(int64(size.files) * int64(size.bytes))
			for b.Loop() {
				f.digest(b, []string{"**/node_modules", "*.md"}, ".")
			}
		})
	}
}
