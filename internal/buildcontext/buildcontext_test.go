package buildcontext_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	copier "github.com/tonistiigi/fsutil/copy"

	"github.com/slipway-ci/slipway/internal/buildcontext"
)

// folder makes files, and folders where a name ends in a slash; "a -> b" is a
// symbolic link.
func folder(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		name, link, isLink := strings.Cut(name, " -> ")
		at := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		switch {
		case isLink:
			must(t, os.Symlink(link, at))
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(at, 0o755))
		default:
			must(t, os.WriteFile(at, []byte(name), 0o644))
		}
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir, ignore string) *buildcontext.Context {
	t.Helper()
	c, err := buildcontext.Open(dir, []byte(ignore))
	must(t, err)
	return c
}

func walk(t testing.TB, c *buildcontext.Context, sub string) (entries []string) {
	t.Helper()
	must(t, c.Walk(t.Context(), sub, func(e buildcontext.Entry) error {
		entries = append(entries, fmt.Sprintf("%s %s %s", e.Mode, e.Path, e.Link))
		return nil
	}))
	return entries
}

func names(entries []string) (names []string) {
	for _, entry := range entries {
		names = append(names, strings.Fields(entry)[1])
	}
	return names
}

// docker is what Docker's client sends.
func docker(t testing.TB, dir, ignore string) (entries []string) {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(ignore))
	must(t, err)
	files, err := fsutil.NewFS(dir)
	must(t, err)
	files, err = fsutil.NewFilterFS(files, &fsutil.FilterOpt{ExcludePatterns: patterns})
	must(t, err)
	must(t, files.Walk(t.Context(), "/", func(name string, found fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := found.Info()
		if err != nil {
			return err
		}
		stat := info.(*fsutil.StatInfo)
		link := ""
		if info.Mode().Type() == fs.ModeSymlink {
			link = stat.Linkname
		}
		entries = append(entries, fmt.Sprintf("%s %s %s", info.Mode(), name, link))
		return nil
	}))
	return entries
}

// onDisk are all files and folders.
func onDisk(t testing.TB, dir string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, file); err == nil && name != "." {
			names = append(names, name)
		}
		return err
	}))
	return names
}

func TestContext(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files  []string
		ignore string
		want   []string // of the context
		out    []string // what is left out
		lines  map[string]int
	}{
		"no ignore file": {
			files: []string{"a", "b/c"},
			want:  []string{"a", "b", "b/c"},
			lines: map[string]int{"a": 0, ".": 0, "absent": 0},
		},
		"an exception of a folder that no pattern leaves out": {
			files:  []string{"a/b/c/x", "a/b/d"},
			ignore: "a/*/c\n!a/b\n",
			want:   []string{"a", "a/b", "a/b/d"},
			out:    []string{"a/b/c"},
			lines:  map[string]int{"a/b/c/x": 1, "a/b/c": 1, "a/b": 0, "a/b/d": 0},
		},
		"an exception of a folder, and files in it left out by their names": {
			files:  []string{"README.md", "docs/a.md", "docs/deep/b.md", "docs/c.txt"},
			ignore: "**/*.md\n!docs\n",
			want:   []string{"docs", "docs/c.txt", "docs/deep"},
			out:    []string{"README.md", "docs/a.md", "docs/deep/b.md"},
			lines:  map[string]int{"README.md": 1, "docs/a.md": 1, "docs": 0},
		},
		"the exception is said first": {
			files:  []string{"docs/a.md", "docs/b.md"},
			ignore: "!docs/a.md\ndocs\n",
			out:    []string{"docs"},
			lines:  map[string]int{"docs/a.md": 2},
		},
		"a folder is there for what is an exception": {
			files:  []string{"a/b/c", "a/b/d", "a/e/f", "g"},
			ignore: "a\n!a/b/c\n",
			want:   []string{"a", "a/b", "a/b/c", "g"},
			out:    []string{"a/b/d", "a/e"},
			lines:  map[string]int{"a": 1, "a/b/c": 0, "a/e/f": 1},
		},
		"an exception with a star leads nowhere that Docker looks": {
			files:  []string{"a/b/c", "a/d"},
			ignore: "a\n!a/*/**\n",
			out:    []string{"a"},
			lines:  map[string]int{"a/b/c": 1},
		},
		"everything but": {
			files:  []string{"go.mod", "cmd/main.go", "cmd/main_test.go", "docs/a"},
			ignore: "# all\n*\n\n!go.mod\n!cmd\n**/*_test.go\n",
			want:   []string{"cmd", "cmd/main.go", "go.mod"},
			out:    []string{"cmd/main_test.go", "docs"},
			lines:  map[string]int{"docs": 2, "cmd/main_test.go": 6, "go.mod": 0},
		},
		"links are not followed": {
			files:  []string{"a/b", "l -> a", "m -> nowhere"},
			ignore: "m\n",
			want:   []string{"a", "a/b", "l"},
			out:    []string{"m"},
			lines:  map[string]int{"l/b": 0},
		},
		"a byte order mark, and one that is no such": {
			files:  []string{"a", "b", "\ufeffb"},
			ignore: "\ufeffa\n\ufeffb\n",
			want:   []string{"b"},
			out:    []string{"a", "\ufeffb"},
			lines:  map[string]int{"a": 1, "b": 0, "\ufeffb": 2},
		},
		"everything": {
			files: []string{"a", "b/c"}, ignore: "**", out: []string{"a", "b"}, lines: map[string]int{"b/c": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, tc.files...)
			c := open(t, dir, tc.ignore)
			entries := walk(t, c, ".")
			if diff := cmp.Diff(docker(t, dir, tc.ignore), entries); diff != "" {
				t.Errorf("Docker has (-), this has (+):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, names(entries)); diff != "" {
				t.Errorf("wanted (-), is (+):\n%s", diff)
			}
			for _, name := range onDisk(t, dir) {
				if c.Has(name) != slices.Contains(tc.want, name) {
					t.Errorf("has %s: %t", name, c.Has(name))
				}
			}
			for _, name := range []string{"absent", "a/absent/x", "l/b", "..", "../" + filepath.Base(dir) + "/a", "/a"} {
				if c.Has(name) {
					t.Errorf("has %s", name)
				}
			}
			out, err := c.LeftOut(".")
			must(t, err)
			if diff := cmp.Diff(tc.out, out); diff != "" {
				t.Errorf("left out: wanted (-), is (+):\n%s", diff)
			}
			for name, want := range tc.lines {
				if got := c.Line(name); got != want {
					t.Errorf("line %d leaves out %s, want %d", got, name, want)
				}
			}
		})
	}
}

func TestLeftOutOfAFolder(t *testing.T) {
	t.Parallel()
	dir := folder(t, "a/b/c", "a/b/d", "a/e", "a+/b", "f", "l -> a", "out/x")
	c := open(t, dir, "**/c\nout\n")
	for sub, want := range map[string][]string{".": {"a/b/c", "out"}, "a": {"b/c"}, "a/": {"b/c"}, "./a/b": {"c"}, "a+": nil, "f": nil} {
		got, err := c.LeftOut(sub)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("of %s: wanted (-), is (+):\n%s", sub, diff)
		}
	}
	for _, sub := range []string{"out", "out/x", "absent", "l/b", "../x", "a/b/c"} {
		if _, err := c.LeftOut(sub); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of %s: %v", sub, err)
		}
	}
	if got, err := c.LeftOut("l"); err == nil {
		t.Errorf("of a link: %q", got)
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	t.Parallel()
	for ignore, want := range map[string]string{
		"a\n\n[b\n":                `line 3 of the ignore file: pattern "[b": syntax error in pattern`,
		"!\n":                      `line 1 of the ignore file: pattern "!": illegal exclusion pattern: "!"`,
		"a\n[z-a]\n":               `line 2 of the ignore file: pattern "[z-a]": syntax error in pattern`,
		"![z-a]\n":                 `line 1 of the ignore file: pattern "![z-a]": syntax error in pattern`,
		strings.Repeat("x", 1<<17): `line 1 of the ignore file: pattern "` + strings.Repeat("x", 200) + `": bufio.Scanner: token too long`,
	} {
		_, err := buildcontext.Open(t.TempDir(), []byte(ignore))
		if wrong := new(buildcontext.PatternError); !errors.As(err, &wrong) || err.Error() != want {
			t.Errorf("%.100q: %v, want %s", ignore, err, want)
		}
	}
	if _, err := buildcontext.Open(filepath.Join(t.TempDir(), "absent"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestWalkEnds(t *testing.T) {
	t.Parallel()
	for _, ignore := range []string{"", "x\n", "b\n!b/c\n"} {
		c := open(t, folder(t, "a", "b/c", "b/d", "e"), ignore)
		for _, end := range []error{fs.ErrNotExist, os.ErrClosed} {
			if err := c.Walk(t.Context(), ".", func(buildcontext.Entry) error { return end }); !errors.Is(err, end) {
				t.Errorf("with %q: %v, want %v", ignore, err, end)
			}
		}
		for end, want := range map[error][]string{fs.SkipAll: {"a", "b"}, fs.SkipDir: {"a", "b", "e"}} {
			var got []string
			must(t, c.Walk(t.Context(), ".", func(e buildcontext.Entry) error {
				got = append(got, e.Path)
				if e.Path == "b" {
					return end
				}
				return nil
			}))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("with %q, %v: wanted (-), is (+):\n%s", ignore, end, diff)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(os.ErrDeadlineExceeded)
		if err := c.Walk(ctx, ".", func(buildcontext.Entry) error { return nil }); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.Errorf("with %q: %v", ignore, err)
		}
		must(t, os.RemoveAll(c.Dir()))
		if err := c.Walk(t.Context(), ".", func(buildcontext.Entry) error { return nil }); err == nil {
			t.Errorf("with %q: a folder that is gone is walked", ignore)
		}
	}
}

// random trees and ignore files, of few names so that they meet.
type random struct{ *rand.Rand }

func (r random) of(choices ...string) string { return choices[r.IntN(len(choices))] }

func (r random) path(name func() string) string {
	parts := make([]string, 1+r.IntN(4))
	for i := range parts {
		parts[i] = name()
	}
	return path.Join(parts...)
}

func (r random) tree(t testing.TB) string {
	var all []string
	taken := map[string]bool{}
	for range 1 + r.IntN(10) {
		name := r.path(func() string { return r.of("a", "b", "c", "a.md", "b.md", "docs", ".git", "a b") })
		if slices.ContainsFunc(all, func(other string) bool {
			other, _, _ = strings.Cut(strings.TrimSuffix(other, "/"), " -> ")
			return other == name || strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/")
		}) || taken[name] {
			continue
		}
		all = append(all, name+r.of("", "", "", "", "/", " -> "+r.of("a", "b/c", "../a", "nowhere")))
	}
	return folder(t, all...)
}

func (r random) ignore() string {
	var text strings.Builder
	for range 1 + r.IntN(5) {
		pattern := r.path(func() string {
			return r.of("a", "b", "c", "a.md", "docs", ".git", "a b", "*", "**", "*", "**", "*.md", "a*", "?", "[ab]", "[^a]", `\a`, "**.md", "a**")
		})
		fmt.Fprintf(&text, "%s%s%s%s", r.of("", "", "!"), r.of("", "", "", "/", "./", " "), pattern, r.of("\n", "\n", "/\n", " \n", "\n\n", "\n# a\n"))
	}
	return text.String()
}

// Held against what Docker's client runs, and against Docker's copying.
func TestAsDocker(t *testing.T) {
	t.Parallel()
	for part := range uint64(8) {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			r := random{rand.New(rand.NewPCG(1, part))}
			for range 25 {
				dir := r.tree(t)
				for range 12 {
					ignore := r.ignore()
					if !asDocker(t, dir, ignore, r.IntN(20) == 0) {
						t.Fatalf("with the ignore file\n%s\nand the files\n%s", ignore, strings.Join(onDisk(t, dir), "\n"))
					}
				}
			}
		})
	}
}

func asDocker(t *testing.T, dir, ignore string, copies bool) bool {
	c := open(t, dir, ignore)
	patterns, err := ignorefile.ReadAll(strings.NewReader(ignore))
	must(t, err)
	if diff := cmp.Diff(patterns, c.Patterns()); diff != "" {
		t.Errorf("Docker reads (-), this reads (+):\n%s", diff)
	}
	sent := map[string]string{}
	all := docker(t, dir, ignore)
	if diff := cmp.Diff(all, walk(t, c, ".")); diff != "" {
		t.Errorf("Docker has (-), this has (+):\n%s", diff)
		return false
	}
	for _, entry := range all {
		_, name, _ := strings.Cut(entry, " ")
		name = name[:strings.LastIndex(name, " ")]
		sent[name] = entry
	}
	there := onDisk(t, dir)
	for _, sub := range append([]string{"."}, there...) {
		_, isSent := sent[sub]
		isSent = isSent || sub == "."
		if c.Has(sub) != isSent {
			t.Errorf("has %s: %t, Docker: %t", sub, c.Has(sub), isSent)
		}
		info, err := os.Lstat(filepath.Join(dir, sub))
		must(t, err)
		if line := c.Line(sub); !info.IsDir() && (line > 0) == isSent || info.IsDir() && line == 0 && !isSent {
			t.Errorf("line %d leaves out %s, Docker has it: %t", line, sub, isSent)
		}
		if line := c.Line(sub); line > 0 && !open(t, dir, ignore+"\n!"+sub).Has(sub) {
			t.Errorf("!%s at the end brings it not back", sub)
		}
		var want []string
		for _, name := range there {
			if entry, ok := sent[name]; ok && (name == sub || sub == "." || strings.HasPrefix(name, sub+"/")) {
				want = append(want, entry)
			}
		}
		slices.SortFunc(want, func(a, b string) int { return slices.Index(all, a) - slices.Index(all, b) })
		if diff := cmp.Diff(want, walk(t, c, sub)); diff != "" {
			t.Errorf("Docker has of %s (-), this has (+):\n%s", sub, diff)
		}
		if !info.IsDir() {
			continue
		}
		out, err := c.LeftOut(sub)
		if (err == nil) != isSent {
			t.Errorf("left out of %s: %v", sub, err)
		}
		if err == nil && copies {
			asCopied(t, dir, sub, out, sent)
		}
	}
	return !t.Failed()
}

// asCopied copies sub without what is left out, which is to yield what Docker
// has sent.
func asCopied(t *testing.T, dir, sub string, out []string, sent map[string]string) {
	t.Helper()
	to := t.TempDir()
	must(t, copier.Copy(t.Context(), dir, sub, to, "copied", func(c *copier.CopyInfo) {
		c.ExcludePatterns, c.CopyDirContents = buildcontext.Patterns(out), true
	}))
	var want []string
	for name := range sent {
		if rest, ok := strings.CutPrefix(name, sub+"/"); ok {
			want = append(want, rest)
		} else if sub == "." {
			want = append(want, name)
		}
	}
	got := onDisk(t, filepath.Join(to, "copied"))
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("Docker has of %s %q, the copy %q", sub, want, got)
	}
}

func FuzzOpen(f *testing.F) {
	for _, ignore := range []string{"", "*", "*\n!a\n", "\ufeffa\n\ufeffb\n", "a\r\nb\r", "# a\n #b\n", "!", "[", "\x85\n\xa0b", "..\n/\n.\n", "a/\x00"} {
		f.Add([]byte(ignore))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, ignore []byte) {
		c, err := buildcontext.Open(dir, ignore)
		want, wantErr := ignorefile.ReadAll(bytes.NewReader(ignore))
		if err != nil {
			if wrong := new(buildcontext.PatternError); !errors.As(err, &wrong) || wrong.Line < 1 {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		if wantErr != nil || !slices.Equal(want, c.Patterns()) {
			t.Errorf("Docker reads %q (%v), this %q", want, wantErr, c.Patterns())
		}
	})
}

func BenchmarkWalk(b *testing.B) {
	var files []string
	for i := range 1000 {
		files = append(files, fmt.Sprintf("folder-%d/in/folder/file-%d.go", i%50, i))
	}
	dir := folder(b, files...)
	for name, ignore := range map[string]string{"no ignore file": "", "an ignore file": "**/node_modules\n*.md\n", "exceptions": "*\n!folder-*\n**/node_modules\n"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				walk(b, open(b, dir, ignore), ".")
			}
		})
		b.Run(name+", by fsutil alone", func(b *testing.B) {
			for b.Loop() {
				docker(b, dir, ignore)
			}
		})
	}
}
