package prepare

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/slipway-ci/slipway/internal/dockerfile"
)

// ignore is a .dockerignore, as Docker reads it.
type ignore struct {
	name     string // in the source workspace
	content  []byte
	patterns []string
	lines    []int // of each pattern
}

// parseIgnore reads a .dockerignore. What is wrong with it is a
// [dockerfile.Error]: kaniko would copy everything then.
func parseIgnore(name string, content []byte) (*ignore, error) {
	f := &ignore{name: name, content: content}
	line := 0
	for text := range bytes.Lines(content) {
		line++
		patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
		if err == nil {
			_, err = patternmatcher.New(patterns)
		}
		if err != nil {
			return nil, &dockerfile.Error{Name: name, Line: line, Problem: fmt.Sprintf("pattern %q: %v", bytes.TrimSpace(text), err), Fix: "see https://docs.docker.com/build/concepts/context/#dockerignore-files"}
		}
		for _, pattern := range patterns {
			f.patterns = append(f.patterns, pattern)
			f.lines = append(f.lines, line)
		}
	}
	return f, nil
}

// forKaniko is the file that makes kaniko (v1.27.5) leave out what Docker leaves
// out. kaniko holds a pattern against a path and against one folder above it,
// as deep as the pattern has names. That misses what lies in a folder that a
// pattern with ** matches, so a second pattern says it.
func (f *ignore) forKaniko() []byte {
	var text strings.Builder
	for _, pattern := range f.patterns {
		bare := strings.TrimPrefix(pattern, "!")
		not := pattern[:len(pattern)-len(bare)]
		if strings.HasPrefix(bare, "#") {
			bare = "./" + bare // it would read as a comment
		}
		fmt.Fprintf(&text, "%s%s\n", not, bare)
		if strings.Contains(bare, "**") && path.Base(bare) != "**" {
			if suffix, ok := strings.CutPrefix(bare, "**"); ok && !strings.ContainsAny(suffix, `*?[\`) && suffix[0] != '/' {
				bare = "***" + suffix // "**.d" is any name that ends so, but only where nothing follows
			}
			fmt.Fprintf(&text, "%s%s/**\n", not, bare)
		}
	}
	return []byte(text.String())
}

// excludes is the line of the pattern that leaves out a path of the build
// context, 0 for none.
func (f *ignore) excludes(name string) int {
	if f == nil {
		return 0
	}
	line := 0
	for n := range f.patterns {
		out, err := patternmatcher.MatchesOrParentMatches(name, f.patterns[:n+1])
		switch {
		case err != nil || !out: // parseIgnore has seen all patterns
			line = 0
		case line == 0:
			line = f.lines[n]
		}
	}
	return line
}

// matcher is what leaves files out of the build context, nil for nothing.
func (f *ignore) matcher() (*patternmatcher.PatternMatcher, error) {
	if f == nil {
		return nil, nil
	}
	return patternmatcher.New(f.patterns)
}

// hasExceptions reports whether what a folder's pattern leaves out may be there
// in part.
func (f *ignore) hasExceptions() bool {
	return strings.Contains("\n"+strings.Join(f.patterns, "\n"), "\n!")
}
