// Package buildcontext says which files of a folder are a build's context: those
// that Docker sends to BuildKit, by the code that Docker has for it.
//
// One thing is not as Docker has it. Where a pattern follows an exception and
// leaves out the folder around it once more ("docs", "!docs/a", "docs"), Docker
// lists the file and then sends it empty. Here it has its content.
package buildcontext

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
)

// Context is a folder, less what its ignore file leaves out. It is safe for
// concurrent use.
type Context struct {
	tree     tree
	patterns []string
	lines    []int // of each pattern
}

// Open reads the ignore file of the folder dir, an absolute path; ignore is its
// content, nil or empty for none. A pattern that is wrong is a [*PatternError],
// also where Docker would find that out only at a file that it is held against.
func Open(dir string, ignore []byte) (*Context, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("build context: %w", err)
	}
	c := &Context{tree: tree{dir: dir}}
	line := 0
	for text := range bytes.Lines(ignore) {
		if line++; line > 1 {
			text = append([]byte{'\n'}, text...) // a byte order mark is one in the first line only
		}
		patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
		if err == nil {
			err = try(patterns)
		}
		if err != nil {
			return nil, &PatternError{Line: line, Pattern: string(bytes.TrimSpace(text)), Err: err}
		}
		for _, pattern := range patterns {
			c.patterns = append(c.patterns, pattern)
			c.lines = append(c.lines, line)
		}
	}
	return c, nil
}

// WithPatterns is the context of the folder dir with patterns that [Context.Patterns]
// has returned.
func WithPatterns(dir string, patterns []string) *Context {
	return &Context{tree: tree{dir: dir}, patterns: patterns, lines: make([]int, len(patterns))}
}

// try finds what is wrong with patterns, each by itself: an exception that
// nothing precedes is never compiled.
func try(patterns []string) error {
	for _, pattern := range patterns {
		if _, err := patternmatcher.New([]string{pattern}); err != nil {
			return err
		}
		if _, err := patternmatcher.MatchesOrParentMatches("x", []string{strings.TrimPrefix(pattern, "!")}); err != nil {
			return err
		}
	}
	return nil
}

// PatternError is a line of an ignore file that is no pattern.
type PatternError struct {
	Line    int
	Pattern string
	Err     error
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("line %d of the ignore file: pattern %.200q: %v", e.Line, e.Pattern, e.Err)
}

func (e *PatternError) Unwrap() error { return e.Err }

// Dir is the folder, without symbolic links.
func (c *Context) Dir() string { return c.tree.dir }

// Patterns are those of the ignore file, as Docker reads them.
func (c *Context) Patterns() []string { return c.patterns }

// Entry is a file, folder or link of the context.
type Entry struct {
	Path string // relative to the context's folder
	Mode fs.FileMode
	Link string // where a symbolic link leads
}

// Walk calls fn for what the context has at sub and below it, "." for all of it:
// a folder before what is in it, in the order of names. A folder that the
// ignore file leaves out is in the context with what is an exception in it.
// Symbolic links are not followed, and below one there is nothing. fn may
// return [fs.SkipDir] and [fs.SkipAll].
func (c *Context) Walk(ctx context.Context, sub string, fn func(Entry) error) error {
	return c.walk(ctx, c.tree, sub, fn)
}

func (c *Context) walk(ctx context.Context, files fsutil.FS, sub string, fn func(Entry) error) error {
	filtered, err := filter(files, c.patterns)
	if err != nil {
		return err
	}
	sub = path.Clean(sub)
	var failed error // not for the filter, which passes over some errors
	err = filtered.Walk(ctx, sub, func(name string, found fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if sub != "." && !within(name, sub) {
			return nil // a folder on the way
		}
		stat, err := statOf(found)
		if err != nil {
			return err
		}
		err = fn(Entry{Path: name, Mode: fs.FileMode(stat.Mode), Link: stat.Linkname})
		if ended(err) != nil {
			failed = err
			return fs.SkipAll
		}
		return err
	})
	if failed != nil {
		return failed
	}
	return err
}

// filter is how Docker applies patterns: not only each to a path and its
// folders, but from the root on, with folders that it does not look into.
func filter(files fsutil.FS, patterns []string) (fsutil.FS, error) {
	if len(patterns) == 0 {
		return files, nil
	}
	return fsutil.NewFilterFS(files, &fsutil.FilterOpt{ExcludePatterns: patterns})
}

// Has reports whether the context has a file, folder or link of that name. What
// cannot be read is not there.
func (c *Context) Has(name string) bool {
	if name = path.Clean(name); name == "." {
		return true
	}
	found := false
	err := c.Walk(context.Background(), name, func(Entry) error {
		found = true
		return fs.SkipAll
	})
	return err == nil && found
}

// Line is that of the pattern which leaves out a file of that name, whether or
// not there is one; 0 for none. Of a folder it says nothing about exceptions in
// it, with which the context may [Context.Has] it.
func (c *Context) Line(name string) int {
	name = path.Clean(name)
	if name == "." || c.admits(name, len(c.patterns)) {
		return 0
	}
	first := len(c.patterns) // how many patterns it takes
	for first > 1 && !c.admits(name, first-1) {
		first--
	}
	return c.lines[first-1]
}

// admits reports whether the first n patterns let a file of that name through.
func (c *Context) admits(name string, n int) bool {
	found := false
	filtered, err := filter(chain{}, c.patterns[:n])
	if err == nil {
		err = filtered.Walk(context.Background(), name, func(reached string, _ fs.DirEntry, err error) error {
			found = found || reached == name
			return err
		})
	}
	return err != nil || found // Open has seen all patterns
}

// LeftOut are the paths, relative to the folder sub of the context, that are
// there but not in the context; of a folder that is left out with all that is in
// it only the folder. Where sub itself is not in the context, the error is an
// [fs.ErrNotExist]; whoever has a symbolic link asks about what it leads to.
func (c *Context) LeftOut(sub string) ([]string, error) {
	if len(c.patterns) == 0 {
		return nil, nil
	}
	sub = path.Clean(sub)
	var there []string
	sent := map[string]bool{".": true}
	seen := tree{dir: c.tree.dir, saw: func(name string) { there = append(there, name) }}
	err := c.walk(context.Background(), seen, sub, func(e Entry) error {
		if e.Path == sub && e.Mode.Type() == fs.ModeSymlink {
			return errors.New("it is a symbolic link: ask about what it leads to")
		}
		sent[e.Path] = true
		return nil
	})
	if err == nil && !sent[sub] {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("build context %s: find what the ignore file leaves out of %s: %w", c.tree.dir, sub, err)
	}
	var out []string
	prefix := ""
	if sub != "." {
		prefix = sub + "/"
	}
	for _, name := range there {
		below, ok := strings.CutPrefix(name, prefix)
		if !ok || sent[name] || len(out) > 0 && within(below, out[len(out)-1]) {
			continue
		}
		out = append(out, below)
	}
	return out, nil
}

// within reports whether name is folder, or in it.
func within(name, folder string) bool {
	rest, ok := strings.CutPrefix(name, folder)
	return ok && (rest == "" || rest[0] == '/')
}
