package dockerfile

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// contextSource is a path of the build context, where an instruction names it.
type contextSource struct {
	in   *instruction
	word string
	vars variables
}

// by is what takes the path.
func (s contextSource) by() string {
	if keyword := s.in.keyword(); keyword != "RUN" {
		return keyword
	}
	return "RUN --mount"
}

// contextSources are the paths of the build context that i takes files from.
func contextSources(i *instruction) []string {
	var paths []string
	switch c := i.command.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			paths = c.SourcePaths
		}
	case *instructions.AddCommand:
		paths = c.SourcePaths
	case *instructions.RunCommand:
		for _, m := range i.mounts() {
			if source := m.options["source"]; source != "" && m.ofContext() {
				paths = append(paths, source)
			}
		}
	}
	return paths
}

// checkSources finds what is not there to be copied, before a base image is
// fetched and unpacked for it.
func (d *derivation) checkSources() error {
	if d.options.Source == nil {
		return nil
	}
	for _, n := range d.needed() {
		for _, source := range n.sources {
			word, ok := d.plain(source)
			if !ok {
				continue
			}
			if c, ok := source.in.command.(*instructions.CopyCommand); ok && c.Parents {
				continue // a path there is a pattern, and a link in it is copied
			}
			problem := d.options.Source(word)
			if problem == nil {
				continue
			}
			if within(path.Clean(strings.TrimLeft(word, "/")), "..") { // Docker looks from the context's root on
				return d.file.errorAt(source.in.line, fmt.Sprintf("%s %s leaves the build context", source.by(), word),
					"set the param context to a folder above both, and the param dockerfile to this file from there")
			}
			text := fmt.Sprintf("%s %s: %s", source.by(), word, problem.Problem)
			return d.file.errorAt(source.in.line, text, problem.Fix)
		}
	}
	return nil
}

// plain is the path that a source means; not ok for a pattern, a URL and what
// only the base image knows.
func (d *derivation) plain(source contextSource) (word string, ok bool) {
	word, missing, err := shell.NewLex(d.file.escape).ProcessWord(source.word, source.vars)
	if err != nil || len(missing) > 0 && !source.vars.complete || strings.ContainsAny(word, "*?[\\") || isRemote(word) {
		return "", false
	}
	return word, true
}

// brings is what of the build context ends up at full, or in it, where a folder
// is copied to p, which lies above; "" for nothing.
func (d *derivation) brings(n *node, p place, full string) string {
	rest, ok := strings.CutPrefix(full, strings.TrimSuffix(p.full, "/")+"/")
	if p.role != destination || p.full == "" || !ok || d.options.Has == nil {
		return ""
	}
	for _, source := range n.sources {
		if source.in != p.in {
			continue
		}
		if word, ok := d.plain(source); ok {
			if file := strings.TrimPrefix(path.Join("/", word, rest), "/"); d.options.Has(file) {
				return file
			}
		}
	}
	return ""
}

// isRemote reports whether ADD downloads the source, or clones it.
func isRemote(source string) bool {
	return strings.Contains(source, "://") || strings.HasPrefix(source, "git@")
}
