package dockerfile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

const scratch = "scratch"

// graph is a Dockerfile's stages as one build sees them: FROM expanded, and
// who needs whom.
type graph struct {
	file    *File
	globals environ             // what FROM may use
	unset   map[string][]string // by ARG, those without a value that its own needs
	nodes   []*node             // one a stage
	target  int
}

// node is a stage of a graph.
type node struct {
	*stage
	index    int
	base     string         // FROM's image or stage, expanded
	platform string         // of FROM, expanded; "" where none is given
	parent   int            // the stage that base names, or none
	image    *ImageConfig   // what FROM an image brings along; nil where that is not known
	program  []*instruction // the ONBUILD triggers of the parent or image, then the stage's own instructions
	matters  bool           // the target cannot be built without it
	final    bool           // the target, or what the target is FROM
	ref      string         // the image it is FROM, as pinned; "" for a stage or scratch

	places      []place // the paths it names
	sources     []contextSource
	vars        variables
	folder      string // the WORKDIR at its end; "" where its image decides
	movedFolder string // the same, once paths are moved
}

// none is the parent of a stage that is FROM an image.
const none = -1

// newGraph resolves the stages that o's target needs.
func (f *File) newGraph(o Options) (*graph, error) {
	g := &graph{file: f, globals: automaticArgs(f, o), unset: map[string][]string{}}
	lex := shell.NewLex(f.escape)
	for _, i := range f.globals {
		for _, arg := range i.command.(*instructions.ArgCommand).Args {
			value, given := o.BuildArgs[arg.Key]
			if !given {
				if arg.Value == nil {
					continue
				}
				result, err := lex.ProcessWordWithMatches(*arg.Value, g.globals)
				if err != nil {
					return nil, f.errorAt(i.line, err.Error(), "")
				}
				value, g.unset[arg.Key] = result.Result, g.withoutValue(result)
			}
			g.globals[arg.Key] = value
		}
	}
	for index, s := range f.stages {
		g.nodes = append(g.nodes, &node{stage: s, index: index})
	}
	var err error
	if g.target, err = g.findTarget(o.Target); err != nil {
		return nil, err
	}
	if err := g.need(g.target); err != nil {
		return nil, err
	}
	for n := g.nodes[g.target]; ; n = g.nodes[n.parent] {
		n.final = true
		if n.parent == none {
			return g, nil
		}
	}
}

// automaticArgs are those that BuildKit defines for every build.
func automaticArgs(f *File, o Options) environ {
	os, rest, _ := strings.Cut(o.Platform, "/")
	arch, variant, _ := strings.Cut(rest, "/")
	stage := o.Target
	if stage == "" {
		stage = f.stages[len(f.stages)-1].Name
	}
	if stage == "" {
		stage = "default"
	}
	args := environ{
		"BUILDPLATFORM": o.Platform, "BUILDOS": os, "BUILDARCH": arch, "BUILDVARIANT": variant,
		"TARGETPLATFORM": o.Platform, "TARGETOS": os, "TARGETARCH": arch, "TARGETVARIANT": variant,
		"BUILDOSVERSION": "", "TARGETOSVERSION": "", "TARGETSTAGE": stage,
	}
	for name := range args {
		if value, ok := o.BuildArgs[name]; ok {
			args[name] = value
		}
	}
	return args
}

// findTarget is the stage a build's target names: by name, by number, or the
// last for "".
func (g *graph) findTarget(target string) (int, error) {
	if target == "" {
		return len(g.nodes) - 1, nil
	}
	if number, err := strconv.Atoi(target); err == nil && 0 <= number && number < len(g.nodes) {
		if target = g.nodes[number].Name; target == "" {
			return number, nil
		}
	}
	index, err := g.only(target, len(g.nodes))
	if err == nil && index == none {
		err = g.file.errorAt(0, fmt.Sprintf("no stage %q to build", target), "the stages are: "+g.file.stageNames())
	}
	return index, err
}

// last is the last stage called name among those before the stage end, or
// none. It is what COPY --from means, to BuildKit and to kaniko.
func (g *graph) last(name string, end int) int {
	for _, n := range slices.Backward(g.nodes[:end]) {
		if n.Name != "" && strings.EqualFold(n.Name, name) {
			return n.index
		}
	}
	return none
}

// only is the one stage called name among those before the stage end, or none.
// Where FROM or a target could mean two stages, BuildKit takes the last and
// kaniko the first.
func (g *graph) only(name string, end int) (int, error) {
	index := g.last(name, end)
	if index == none {
		return none, nil
	}
	if other := g.last(name, index); other != none {
		return none, g.file.errorAt(g.nodes[index].from.line,
			fmt.Sprintf("stage %s has the name of the stage of line %d", name, g.nodes[other].from.line), "give each its own name")
	}
	return index, nil
}

// need resolves a stage and all it needs.
func (g *graph) need(index int) error {
	n := g.nodes[index]
	if n.matters {
		return nil
	}
	n.matters = true
	if err := g.resolveFrom(n); err != nil {
		return err
	}
	if n.parent != none {
		if err := g.need(n.parent); err != nil {
			return err
		}
		for _, i := range g.nodes[n.parent].body {
			if i.trigger != nil {
				n.program = append(n.program, i.trigger)
			}
		}
	}
	n.program = append(n.program, n.body...)
	for _, i := range n.program {
		sources, err := g.sources(n, i)
		if err != nil {
			return err
		}
		for _, source := range sources {
			if source == none {
				continue
			}
			if err := g.need(source); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *graph) resolveFrom(n *node) error {
	lex := shell.NewLex(g.file.escape)
	expand := func(word string) (expanded, fix string, err error) {
		result, err := lex.ProcessWordWithMatches(word, g.globals)
		if err != nil {
			return "", "", g.file.errorAt(n.from.line, err.Error(), "")
		}
		if fix = "name an image"; len(g.withoutValue(result)) > 0 {
			fix = fmt.Sprintf("give ARG %s a default before the first FROM, or pass it as a build arg", strings.Join(g.withoutValue(result), ", "))
		}
		if result.Result == "" {
			return "", "", g.file.errorAt(n.from.line, fmt.Sprintf("%s in FROM is empty", word), fix)
		}
		return result.Result, fix, nil
	}
	base, fix, err := expand(n.BaseName)
	if err != nil {
		return err
	}
	n.base = base
	if n.Platform != "" {
		if n.platform, _, err = expand(n.Platform); err != nil {
			return err
		}
		if !strings.Contains(n.platform, "/") {
			return g.file.errorAt(n.from.line, fmt.Sprintf("platform %q", n.platform), "write it as os/arch, such as linux/amd64")
		}
	}
	if n.parent, err = g.only(n.base, n.index); err != nil || n.parent != none || n.base == scratch {
		return err
	}
	image, _, _ := strings.Cut(n.base, "@") // a digest is for whoever asks for the image to read
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return g.file.errorAt(n.from.line, fmt.Sprintf("%s is no image: %v", named(n.BaseName, n.base), err), fix)
	}
	return nil
}

// withoutValue are the ARGs that a word needs, by itself or by an ARG's default,
// and that have no value; sorted.
func (g *graph) withoutValue(result shell.ProcessWordResult) []string {
	names := slices.Collect(maps.Keys(result.Unmatched))
	for name := range result.Matched {
		names = append(names, g.unset[name]...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// named is a word with what it expands to, where that is something else.
func named(word, expanded string) string {
	if word == expanded {
		return word
	}
	return fmt.Sprintf("%s, which is %q,", word, expanded)
}

// sources are the stages an instruction of n reads from; none stands for an
// image.
func (g *graph) sources(n *node, i *instruction) ([]int, error) {
	switch c := i.command.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			return nil, nil
		}
		source, err := g.copySource(n, i, c.From)
		return []int{source}, err
	case *instructions.RunCommand:
		var sources []int
		for _, m := range instructions.GetMounts(c) {
			if m.From == "" {
				continue
			}
			sources = append(sources, g.last(m.From, n.index))
		}
		return sources, nil
	}
	return nil, nil
}

// copySource is the stage that COPY --from=name reads from, or none for an
// image.
func (g *graph) copySource(n *node, i *instruction, name string) (int, error) {
	if strings.Contains(name, "$") {
		return none, g.file.errorAt(i.line, fmt.Sprintf("COPY --from=%s: variables are not expanded there", name),
			"make it a stage: FROM "+name+" AS ..., and copy from that")
	}
	index, err := strconv.Atoi(name)
	if err != nil {
		if index = g.last(name, len(g.nodes)); index == none {
			return none, nil
		}
	}
	switch {
	case index < 0 || index >= len(g.nodes):
		return none, g.file.errorAt(i.line, fmt.Sprintf("COPY --from=%s: there is no stage of this number", name), "the stages are: "+g.file.stageNames())
	case index == n.index:
		return none, g.file.errorAt(i.line, fmt.Sprintf("COPY --from=%s: a stage cannot copy from itself", name), "leave --from out to copy from the build context")
	case index > n.index:
		return none, g.file.errorAt(i.line, fmt.Sprintf("COPY --from=%s: that stage comes later, at line %d, and kaniko builds in order", name, g.nodes[index].from.line), "move it up")
	}
	return index, nil
}

// needed are the stages that matter, in the file's order.
func (g *graph) needed() []*node {
	return slices.DeleteFunc(slices.Clone(g.nodes), func(n *node) bool { return !n.matters })
}

// environ is the variables that FROM may use.
type environ map[string]string

func (e environ) Get(name string) (string, bool) { value, ok := e[name]; return value, ok }
func (e environ) Keys() []string                 { return slices.Sorted(maps.Keys(e)) }
