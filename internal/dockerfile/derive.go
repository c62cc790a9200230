package dockerfile

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/pmezard/go-difflib/difflib"
)

// Options are what a build asks of a Dockerfile.
type Options struct {
	// Target is the stage to build, by name or number; "" is the last.
	Target string
	// BuildArgs are the user's.
	BuildArgs map[string]string
	// Platform of the node, os/arch[/variant]: that of every FROM without one.
	Platform string
	// Mounted are the absolute paths kaniko neither fills nor keeps: what is
	// mounted in its container, and its own folder.
	Mounted []string
	// ModCache is the absolute path of the module cache that RUN finds, a link
	// to the one that is kept; "" for none.
	ModCache string
	// Pin returns the reference to build from for an image as the Dockerfile
	// names it, variables expanded. It is called once for each image and
	// platform that the target needs, by several goroutines, and has returned
	// when Derive does.
	Pin func(ctx context.Context, image, platform string) (string, error)
	// Config returns the configuration of the image that Pin named so, for each
	// that a stage is FROM. Without it (nil, or a nil ImageConfig), what
	// depends on it is left as it is.
	Config func(ctx context.Context, ref string) (*ImageConfig, error)
	// Source says what is wrong with copying path, as COPY and ADD name it,
	// from the build context; nil for nothing. It is not asked for patterns
	// and URLs. Without it nothing is checked.
	Source func(path string) *SourceError
	// Has reports whether the build context has files at path, relative to it,
	// once .dockerignore has had its say. Without it nothing is looked for.
	Has func(path string) bool
	// Secrets are the ids of the secrets that a RUN may mount.
	Secrets []string
}

// SourceError is what is wrong with a path of the build context.
type SourceError struct {
	Problem, Fix string
}

// Derived is the Dockerfile kaniko builds, and what there is to say about it.
type Derived struct {
	Content []byte
	// Target is what kaniko must be told to build; "" is the last stage.
	Target string
	// Changes are in the order of the file.
	Changes []Change
	// Args are the names that an ARG declares after a FROM, in the stages that
	// the target needs: those a build arg reaches.
	Args map[string]bool
	// Secrets are the ids of those that a RUN mounts, of the ones given, sorted.
	Secrets []string
	// Notes are in the order of the file.
	Notes []Note
	// Escapes are those that say why go commands use no kept cache.
	Escapes []Note
	// Bases are the images that the target needs; one may be there twice.
	Bases []Base
	// Modules is the first instruction to which it matters that the module
	// cache is a link to the kept one; nil if there is none, and it can be.
	Modules *Note

	name       string
	source     []byte
	derivation *derivation
}

// ErrorAt returns what was found at a line of the derived Dockerfile as an error
// at the line of the source; 0 is for no line.
func (d *Derived) ErrorAt(line int, problem string) *Error {
	if lines := d.sourceLines(); line > 0 && line <= len(lines) {
		line = lines[line-1]
	}
	return &Error{Name: d.name, Line: line, Problem: problem}
}

// Change is one place where the derived Dockerfile differs.
type Change struct {
	Line int    // in the source
	Old  string // "" for what was added
	New  string // "" for what was removed
	Why  string
}

// Note is something the user may not expect, but may live with.
type Note struct {
	Line int // 0 for a note about no line
	Text string
}

// String is "7: text", to follow the file's name and a colon.
func (n Note) String() string {
	if n.Line == 0 {
		return n.Text
	}
	return fmt.Sprintf("%d: %s", n.Line, n.Text)
}

// Derive checks the stages that the target needs and rewrites them for kaniko.
// What the user has to mend is an [Error]; a failure of Pin or Config is wrapped.
func (f *File) Derive(ctx context.Context, o Options) (*Derived, error) {
	g, err := f.newGraph(o)
	if err != nil {
		return nil, err
	}
	d := &derivation{graph: g, options: o}
	ctx, d.cancel = context.WithCancel(ctx)
	derived, err := d.derive(ctx)
	if err != nil {
		d.cancel()
	}
	for _, pin := range d.pins {
		_, _ = pin()
	}
	return derived, err
}

func (d *derivation) derive(ctx context.Context) (*Derived, error) {
	if err := d.checkArgs(); err != nil {
		return nil, err
	}
	d.askForPins(ctx)
	if err := d.readBases(ctx); err != nil {
		return nil, err
	}
	for _, n := range d.needed() {
		d.trace(n)
	}
	if err := d.checkSources(); err != nil {
		return nil, err
	}
	secrets, err := d.secrets()
	if err != nil {
		return nil, err
	}
	modules := d.modules()
	if modules == nil {
		d.dropCacheMounts()
	}
	if err := d.movePaths(); err != nil {
		return nil, err
	}
	if err := d.pin(); err != nil {
		return nil, err
	}
	target, notes := d.nameTarget(), d.notes()
	slices.SortStableFunc(d.changes, func(a, b Change) int { return cmp.Compare(a.Line, b.Line) })
	return &Derived{
		Content: slices.Concat(d.file.mark, apply(d.file.source, d.edits)),
		Target:  target,
		Changes: d.changes,
		Args:    d.args(),
		Secrets: secrets,
		Notes:   notes,
		Escapes: d.escapes,
		Bases:   d.bases(),
		Modules: modules,

		name:       d.file.name,
		source:     d.file.source,
		derivation: d,
	}, nil
}

// derivation collects what Derive changes.
type derivation struct {
	*graph
	options Options
	pins    map[imageKey]func() (string, error)
	cancel  func() // only after an error: the layers of what Pin has found may be read in its context
	edits   []edit
	changes []Change
	edited  map[span]bool // places in the source that have an edit
	noted   []Note        // on the way
	escapes []Note        // see Derived.Escapes

	copiedFrom []string // images that became stages, as pinned
}

// replace puts text in place of a word of i. An ONBUILD runs once in each
// stage built on its own, but is edited once.
func (d *derivation) replace(i *instruction, word span, text, why string) {
	e := i.joined.replace(word, text) //nolint:staticcheck // joined says what is edited: the source, not the instruction
	place := span{e.start, e.end}
	if d.edited[place] || i.raw(word) == text {
		return
	}
	if d.edited == nil {
		d.edited = map[span]bool{}
	}
	d.edited[place] = true
	d.edits = append(d.edits, e)
	d.changes = append(d.changes, Change{Line: i.line, Old: i.raw(word), New: text, Why: why})
}

// remove takes a flag of i away, and the blank after it.
func (d *derivation) remove(i *instruction, flag span, why string) {
	if end := flag.end; end < len(i.text) && i.text[end] == ' ' && i.at[end] == i.at[end-1]+1 {
		flag.end++
	}
	d.replace(i, flag, "", why)
}

// insertAfter puts a line after a FROM.
func (d *derivation) insertAfter(from *instruction, line, why string) {
	end := from.at[len(from.at)-1] + 1
	d.edits = append(d.edits, edit{end, end, d.newline() + line})
	d.changes = append(d.changes, Change{Line: from.line, New: line, Why: why})
}

// newline is the source's line end.
func (d *derivation) newline() string {
	if line, _, _ := bytes.Cut(d.file.source, []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
		return "\r\n"
	}
	return "\n"
}

// pinnable is what an image reference consists of: nothing the Dockerfile's
// own syntax would take for something else.
var pinnable = regexp.MustCompile(`^[\w./:@+-]+$`)

// pin names every image by digest. An image that is only copied from becomes a
// stage: kaniko takes a stage's base from the images fetched beforehand, but
// fetches what COPY --from names by itself, with credentials it does not have.
func (d *derivation) pin() error {
	var added []string
	names := map[string]string{} // image → added stage
	first := len(d.nodes)        // the stage before which stages are added
	for _, n := range d.needed() {
		image := n.from.args[0]
		switch {
		case n.parent != none || n.base == scratch:
			d.replace(n.from, image, d.literal(n), "kaniko does not know all variables here")
		default:
			ref, err := d.pinned(n.base, n.platform)
			if err != nil {
				return fmt.Errorf("%s:%d: base image %s: %w", d.file.name, n.from.line, n.base, err)
			}
			n.ref = ref
			d.replace(n.from, image, ref, "the digest of "+n.base)
		}
		for _, i := range n.program {
			for _, from := range d.readImages(n, i) {
				ref, err := d.pinned(from.image, "")
				if err != nil {
					return fmt.Errorf("%s:%d: %s: no stage has this name, and as an image: %w", d.file.name, i.line, from.as, err)
				}
				if slices.ContainsFunc(n.places, func(p place) bool { return p.in == i && p.role == copied && d.mount(p.full) != "" }) {
					// A stage would lose these very files to the mount.
					d.replace(i, from.word, ref, "the digest of "+from.image+"; kaniko fetches it itself")
					continue
				}
				if names[from.image] == "" {
					names[from.image] = d.unusedName("slipway-from-" + strconv.Itoa(len(names)))
					added = append(added, "FROM "+ref+" AS "+names[from.image])
					d.copiedFrom = append(d.copiedFrom, ref)
					first = min(first, n.index)
				}
				d.replace(i, from.word, names[from.image], "a stage of its own, so that it is built from the digest of "+from.image)
			}
		}
	}
	if len(added) > 0 {
		d.addStages(first, added)
	}
	return nil
}

// readImage is an image that an instruction reads files from.
type readImage struct {
	image string
	word  span   // its name in the instruction
	as    string // the flag that names it
}

// readImages returns the images that an instruction of n copies from or mounts.
func (d *derivation) readImages(n *node, i *instruction) []readImage {
	var images []readImage
	switch c := i.command.(type) {
	case *instructions.CopyCommand:
		if c.From == "" || c.From == scratch || i.isForeign {
			return nil
		}
		if source, err := d.copySource(n, i, c.From); err == nil && source == none { // an error would have been need's
			flag := i.flag("from")
			images = append(images, readImage{c.From, span{flag.start + len("--from="), flag.end}, "COPY --from=" + c.From})
		}
	case *instructions.RunCommand:
		for _, m := range i.mounts() {
			from := m.options["from"]
			if from == "" || from == scratch || m.options["type"] != "bind" || i.isForeign || d.last(from, n.index) != none {
				continue
			}
			if at := strings.Index(i.raw(m.flag), "from="+from); at >= 0 {
				start := m.flag.start + at + len("from=")
				images = append(images, readImage{from, span{start, start + len(from)}, "RUN --mount=from=" + from})
			}
		}
	}
	return images
}

// literal is the stage or scratch that n is FROM, as kaniko must read it.
func (d *derivation) literal(n *node) string {
	raw := n.from.raw(n.from.args[0])
	if strings.EqualFold(raw, n.base) {
		return raw
	}
	return n.base
}

// addStages puts stages before the stage first, and corrects the numbers that
// name the stages after it.
func (d *derivation) addStages(first int, stages []string) {
	from := d.nodes[first].from
	end := d.newline()
	start := bytes.LastIndexByte(d.file.source[:from.at[0]], '\n') + 1
	d.edits = append(d.edits, edit{start, start, strings.Join(stages, end) + end})
	for _, stage := range stages {
		d.changes = append(d.changes, Change{Line: from.line, New: stage, Why: "an image that is copied from, by digest"})
	}
	for _, n := range d.nodes {
		for _, i := range n.body {
			if i.trigger != nil && n.index != d.target {
				i = i.trigger
			}
			c, ok := i.command.(*instructions.CopyCommand)
			if !ok {
				continue
			}
			if number, err := strconv.Atoi(c.From); err == nil && number >= first && number < len(d.nodes) {
				flag := i.flag("from")
				d.replace(i, flag, fmt.Sprintf("--from=%d", number+len(stages)), "the stage's number, now that stages are added before it")
			}
		}
	}
}

// nameTarget is the target as kaniko must be given it: kaniko knows stages by
// name only.
func (d *derivation) nameTarget() string {
	target := d.nodes[d.target]
	if _, err := strconv.Atoi(d.options.Target); err != nil {
		return d.options.Target
	}
	if target.Name != "" {
		return target.Name
	}
	name := d.unusedName("slipway-target")
	i := target.from
	last := i.args[len(i.args)-1]
	end := i.at[last.end-1] + 1
	d.edits = append(d.edits, edit{end, end, " AS " + name})
	d.changes = append(d.changes, Change{Line: i.line, New: "AS " + name, Why: "kaniko takes a target by name only"})
	return name
}

func (g *graph) unusedName(name string) string {
	for slices.ContainsFunc(g.nodes, func(n *node) bool { return n.Name == name }) {
		name += "x"
	}
	return name
}

// flag is the place of a flag, an empty one if i has no such flag.
func (i *instruction) flag(name string) span {
	for n, flag := range i.flags {
		if strings.HasPrefix(flag, "--"+name+"=") {
			return i.flagSpans[n]
		}
	}
	return span{}
}

// keyword is the instruction's name, in capitals.
func (i *instruction) keyword() string {
	c, ok := i.command.(instructions.Command)
	switch {
	case !ok:
		return "FROM"
	case i.isForeign:
		return "the base image's ONBUILD " + strings.ToUpper(c.Name())
	}
	return strings.ToUpper(c.Name())
}

// args are the names declared in the stages that matter.
func (g *graph) args() map[string]bool {
	names := map[string]bool{}
	for _, n := range g.needed() {
		for _, i := range n.program {
			if c, ok := i.command.(*instructions.ArgCommand); ok {
				for _, arg := range c.Args {
					names[arg.Key] = true
				}
			}
		}
	}
	return names
}

// Diff is what changed, as a unified diff for a log; "" for nothing.
func (d *Derived) Diff() string {
	text, _ := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{ // writes to a buffer only
		A:        difflib.SplitLines(string(d.source)),
		B:        difflib.SplitLines(string(bytes.TrimPrefix(d.Content, byteOrderMark))),
		FromFile: d.name,
		ToFile:   d.name + " (as built)",
		Context:  1,
	})
	return text
}
