package dockerfile

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Needed is the user's Dockerfile, and the derived one, with nothing in them of
// the stages that the target does not need: an empty stage in each one's place
// keeps the numbers of the others.
func (d *Derived) Needed() (source, derived []byte) {
	var cuts []edit
	for _, n := range d.derivation.nodes {
		if !n.matters {
			cuts = append(cuts, edit{d.start(n.index), d.start(n.index + 1), "FROM scratch\n"})
		}
	}
	edits := slices.DeleteFunc(slices.Clone(d.derivation.edits), func(e edit) bool {
		return slices.ContainsFunc(cuts, func(cut edit) bool { return cut.start <= e.start && e.start < cut.end })
	})
	return apply(d.source, cuts), apply(d.source, append(edits, cuts...))
}

// start is where the line of a stage's FROM starts; the end of the source for
// the stage after the last.
func (d *Derived) start(stage int) int {
	if stage == len(d.derivation.nodes) {
		return len(d.source)
	}
	return bytes.LastIndexByte(d.source[:d.derivation.nodes[stage].from.at[0]], '\n') + 1
}

// Takes reports whether a build arg of that name has an effect.
func (d *Derived) Takes(arg string) bool { return d.derivation.takes(arg) }

// takes reports whether an ARG declares a name, or every build knows it.
func (d *derivation) takes(arg string) bool {
	if _, automatic := automaticArgs(d.file, d.options)[arg]; automatic || d.args()[arg] {
		return true
	}
	return strings.HasSuffix(strings.ToUpper(arg), "_PROXY") || slices.ContainsFunc(d.file.globals, func(i *instruction) bool {
		return slices.ContainsFunc(i.command.(*instructions.ArgCommand).Args, func(a instructions.KeyValuePairOptional) bool { return a.Key == arg })
	})
}

// Heredocs are the contents of all heredocs in the stages that the target needs.
func (d *Derived) Heredocs() []string {
	var contents []string
	for _, n := range d.derivation.needed() {
		for _, i := range n.program {
			for _, heredoc := range i.heredocs {
				contents = append(contents, heredoc.Content)
			}
		}
	}
	return contents
}

// ContextPaths are what the stages that the target needs take of the build
// context: files, folders with all that is in them, and patterns for either,
// relative and clean. "." is everything, which it is where a path cannot be
// known.
func (d *Derived) ContextPaths() []string {
	var paths []string
	for _, n := range d.derivation.needed() {
		for _, i := range n.program {
			if slices.ContainsFunc(i.mounts(), func(m mount) bool { return m.ofContext() && m.options["source"] == "" }) {
				return []string{"."}
			}
		}
		for _, source := range n.sources {
			word, missing, err := shell.NewLex(d.derivation.file.escape).ProcessWord(source.word, source.vars)
			switch {
			case err != nil, len(missing) > 0, strings.Contains(source.word, `\`), source.by() != source.in.keyword() && strings.Contains(source.word, "$"):
				return []string{"."}
			case isRemote(word):
				continue
			}
			paths = append(paths, strings.TrimPrefix(path.Clean("/"+word), "/"))
		}
	}
	for i := range paths {
		if paths[i] == "" {
			return []string{"."}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
