package generate

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
)

// makeContext chooses files as a Go project has them, and odd ones.
func (g *generator) makeContext() {
	for _, group := range []struct {
		chance float64
		files  []File
	}{
		{0.6, []File{file("go.mod", 0o644, "module example.com/app\n"), file("go.sum", 0o644, "")}},
		{0.5, []File{file("main.go", 0o644, "package main\n"), file("cmd/server/main.go", 0o644, "package main\n")}},
		{0.5, []File{file("app.conf", 0o644, "port=8080\n")}},
		{0.4, []File{file("run.sh", 0o755, "#!/bin/sh\necho run\n")}},
		{0.3, []File{file("secret.key", 0o600, "key\n")}},
		{0.3, []File{file("README.md", 0o644, "read\n"), file("docs/a.md", 0o644, "a\n"), file("docs/deep/b.md", 0o640, "b\n")}},
		{0.35, []File{file("a/b/c/x", 0o644, "x\n"), file("a/b/y", 0o644, "y\n"), file("a/d/c/z", 0o644, "z\n"), file("a/b/y.md", 0o644, "m\n")}},
		{0.3, []File{dir("static", 0o755), file("static/index.html", 0o644, "<p>\n"), file("static/css/s.css", 0o644, "p{}\n")}},
		{0.3, []File{dir("private", 0o700), file("private/k", 0o400, "k\n"), dir("private/sub", 0o711)}},
		{0.2, []File{dir("empty", 0o755)}},
		{0.1, []File{dir("modes", 0o3775), file("modes/suid", 0o4755, "s\n"), file("modes/sgid", 0o2755, "s\n"), dir("modes/sticky", 0o1777)}},
		{0.2, []File{dir("links", 0o755), file("links/target", 0o644, "t\n"), link("links/rel", "target"), link("links/abs", "/links/target"), link("links/none", "nowhere")}},
		{0.2, []File{dir("real", 0o755), file("real/f", 0o644, "f\n"), link("alias", "real"), link("alias-f", "real/f"), link("chain", "alias")}},
		{0.08, []File{file("a b.txt", 0o644, "blank\n"), file("odd/c d/e f", 0o644, "blanks\n")}},
		{0.05, []File{file("odd/[x].txt", 0o644, "bracket\n"), file("odd/x$y", 0o644, "dollar\n"), file("odd/it's", 0o644, "quote\n")}},
		{0.08, []File{file(".env", 0o600, "A=1\n"), file(".git/HEAD", 0o644, "ref: refs/heads/main\n")}},
		{0.1, []File{file("etc/app/x.conf", 0o644, "x\n"), file("etc/app/conf.d/y", 0o600, "y\n")}},
	} {
		if g.chance(group.chance) {
			g.c.Files = append(g.c.Files, group.files...)
		}
	}
	if len(g.c.Files) == 0 {
		g.c.Files = append(g.c.Files, file("app.conf", 0o644, "port=8080\n"), file("conf/x", 0o644, "x\n"))
	}
	if g.chance(0.15) {
		g.c.Files = append(g.c.Files, g.archive())
	}
	g.sortFiles()
	if g.chance(0.3) {
		g.ignore()
	}
	g.context = visible(g.c.Files, g.c.Ignore)
}

func file(p string, mode uint32, content string) File {
	return File{Path: p, Kind: Regular, Mode: mode, Content: content}
}

func dir(p string, mode uint32) File { return File{Path: p, Kind: Folder, Mode: mode} }

func link(p, to string) File { return File{Path: p, Kind: Symlink, Link: to} }

// sortFiles names all folders, once, and each before what is in it.
func (g *generator) sortFiles() {
	known := map[string]bool{}
	for _, f := range g.c.Files {
		known[f.Path] = true
	}
	for _, f := range slices.Clone(g.c.Files) {
		for d := path.Dir(f.Path); d != "."; d = path.Dir(d) {
			if !known[d] {
				known[d] = true
				g.c.Files = append(g.c.Files, dir(d, 0o755))
			}
		}
	}
	slices.SortFunc(g.c.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
}

// archive is one that ADD unpacks, or copies as it is.
func (g *generator) archive() File {
	if g.chance(0.2) {
		return File{Path: "data.json.gz", Kind: Regular, Mode: 0o644, Archive: &Archive{Compression: "gzip", Plain: "{}\n"}}
	}
	prefix := ""
	entries := []Entry{}
	if g.chance(0.5) {
		prefix = "./"
		entries = append(entries, Entry{Name: "./", Kind: Folder, Mode: pick[uint32](g, 0o755, 0o700, 0o775), UID: pick(g, 0, 1000), GID: pick(g, 0, 1000)})
	}
	uid := pick(g, 0, 0, 1000, 12345)
	entries = append(entries,
		Entry{Name: prefix + "top", Kind: Regular, Mode: pick[uint32](g, 0o644, 0o600, 0o4755), UID: uid, GID: uid, Content: "top\n"},
		Entry{Name: prefix + "in/", Kind: Folder, Mode: pick[uint32](g, 0o755, 0o700, 0o1777), UID: uid, GID: uid},
		Entry{Name: prefix + "in/file", Kind: Regular, Mode: 0o640, UID: uid, GID: 1000, Content: "in\n"},
	)
	if g.chance(0.5) {
		entries = append(entries, Entry{Name: prefix + "in/link", Kind: Symlink, Mode: 0o777, Link: "file"})
	}
	if g.chance(0.4) {
		entries = append(entries, Entry{Name: prefix + "hard", Kind: Hardlink, Mode: 0o644, UID: uid, GID: uid, Link: prefix + "top"})
	}
	if g.chance(0.3) {
		entries = append(entries, Entry{Name: prefix + "implied/deep/f", Kind: Regular, Mode: 0o644, Content: "f\n"})
	}
	if g.chance(0.3) {
		entries = append(entries, Entry{Name: prefix + "etc/app/x.conf", Kind: Regular, Mode: 0o600, UID: uid, Content: "tar\n"})
	}
	kinds := []struct{ name, compression string }{
		{"files.tar", ""}, {"files.tar.gz", "gzip"}, {"files.tgz", "gzip"}, {"files.tar.xz", "xz"},
		{"files.txz", "xz"}, {"files.tar.zst", "zstd"}, {"files.tzst", "zstd"}, {"files.bin", "gzip"},
	}
	kind := kinds[g.r.IntN(len(kinds))]
	return File{Path: kind.name, Kind: Regular, Mode: 0o644, Archive: &Archive{Compression: kind.compression, Entries: entries}}
}

// ignore chooses lines for .dockerignore, most of which fit the context.
func (g *generator) ignore() {
	lines := g.ignoreLines()
	if g.chance(0.2) {
		lines = slices.Insert(lines, 0, "# not part of the image", "")
	}
	if g.chance(0.25) {
		lines = append(lines, pick(g, "Dockerfile", "Dockerfile*", ".dockerignore", "/Dockerfile", "**/Dockerfile"))
	}
	if g.chance(0.1) {
		lines[len(lines)-1] += pick(g, "  ", "\t")
	}
	g.c.Ignore = lines
}

func (g *generator) ignoreLines() []string {
	sets := [][]string{
		{"**/*.md", "!docs"}, {"*.md", "!README.md"}, {"a/*/c", "!a/b"}, {"a", "!a/b/c"}, {"docs/**", "!docs/deep/b.md"},
		{"**/*.md"}, {"*.md"}, {"docs"}, {"/docs/"}, {"a/b"}, {"a/*/c"}, {"**/c"}, {"./a/d"}, {"*/*/c"}, {"static/css"},
		{".git"}, {".git", ".env"}, {"**/.*"}, {"*.key"}, {"secret.key"}, {"private/*", "!private/k"}, {"links/*"}, {"links/no*"},
		{"alias"}, {"real"}, {"nothing-there"}, {"a/../docs"}, {"?o.sum"}, {"[a-c]"}, {"etc", "!etc/app/conf.d"},
	}
	if g.chance(0.25) {
		kept := []string{"*"}
		for _, f := range g.c.Files {
			if g.chance(0.35) {
				kept = append(kept, "!"+f.Path)
			}
		}
		if len(kept) == 1 {
			kept = append(kept, "!"+pick(g, g.c.Files...).Path)
		}
		return kept
	}
	lines := slices.Clone(pick(g, sets...))
	for g.chance(0.4) {
		if more := pick(g, sets...); !slices.ContainsFunc(more, func(line string) bool { return coversException(lines, line) }) {
			lines = append(lines, more...)
		}
	}
	return lines
}

// coversException reports whether a line leaves out a folder of what an earlier
// one has made an exception for. Docker's client then sends such a file without
// its content (findings/context-walk-and-open.sh).
func coversException(lines []string, line string) bool {
	return slices.ContainsFunc(lines, func(earlier string) bool {
		exception, ok := strings.CutPrefix(earlier, "!")
		folder := strings.Trim(path.Clean(line), "/")
		return ok && (exception == folder || strings.HasPrefix(exception, folder+"/"))
	})
}

// visible is the context without what .dockerignore leaves out. Folders above what
// is in stay.
func visible(files []File, ignore []string) *tree {
	all := newTree()
	for _, f := range files {
		n := &node{kind: f.Kind, mode: f.Mode, link: f.Link, archive: f.Archive}
		if f.Kind == Folder {
			n = folder(f.Mode, 0, 0)
		}
		_ = all.put("/"+f.Path, n) // after its folder
	}
	_ = all.put("/Dockerfile", &node{kind: Regular, mode: 0o644})
	patterns := readIgnore(ignore)
	if len(patterns) == 0 {
		return all
	}
	_ = all.put("/.dockerignore", &node{kind: Regular, mode: 0o644})
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return all
	}
	prune(all.root, "", matcher, patternmatcher.MatchInfo{})
	return all
}

// prune takes out what matches, and returns whether anything is left.
func prune(n *node, at string, matcher *patternmatcher.PatternMatcher, parent patternmatcher.MatchInfo) bool {
	left := false
	for _, name := range n.names() {
		kid := n.kids[name]
		p := path.Join(at, name)
		out, info, err := matcher.MatchesUsingParentResults(p, parent)
		inside := kid.kind == Folder && prune(kid, p, matcher, info)
		if err != nil || out && !inside {
			delete(n.kids, name)
			continue
		}
		left = true
	}
	return left
}

// readIgnore makes patterns of the lines as BuildKit does.
func readIgnore(lines []string) []string {
	var patterns []string
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		not := ""
		if rest, ok := strings.CutPrefix(line, "!"); ok {
			not, line = "!", strings.TrimSpace(rest)
		}
		line = path.Clean(line)
		if len(line) > 1 {
			line = strings.TrimPrefix(line, "/")
		}
		patterns = append(patterns, not+line)
	}
	return patterns
}
