package dockerfile

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/slipway-ci/slipway/internal/frontend"
	"github.com/slipway-ci/slipway/internal/operation"
)

// ConvertOptions say how the converted Dockerfile calls operations.
type ConvertOptions struct {
	Command []string        // runs the operation whose index follows
	World   operation.World // where operations find what they read
	// Together carries out at once the operations of instructions that follow
	// each other, which then are one layer.
	Together bool
	// Digest returns a digest of what an operation takes of the build context,
	// where kaniko's layer cache depends on it; nil where there is none.
	Digest func(*operation.Operation) (string, error)
}

// Converted is the Dockerfile that kaniko builds.
type Converted struct {
	Content    []byte
	Operations []operation.Operation
	// Targets are the stages that kaniko must build. The first is the image.
	Targets []string
	// TargetStage is the value of TARGETSTAGE, where the target has another name in
	// kaniko's Dockerfile than in the user's; "" where it has the same.
	TargetStage string
	// Runs are the instructions that kaniko sees as RUN, in the file's order.
	Runs []Run
}

// Convert makes kaniko's Dockerfile of the derived one, with what each
// instruction means to BuildKit. Instructions that only set the image's
// configuration go. COPY, ADD, and what else kaniko does otherwise than BuildKit
// becomes a RUN of an [operation.Operation]. Every RUN is then root's to kaniko:
// an operation becomes another user by itself.
func (d *Derived) Convert(ctx context.Context, means *frontend.Definition, o ConvertOptions) (*Converted, error) {
	content := d.Content
	if !bytes.HasSuffix(content, []byte("\n")) {
		content = append(bytes.Clone(content), '\n')
	}
	file, err := Parse(d.name, content)
	if err != nil {
		return nil, err
	}
	options := d.derivation.options
	options.Target = d.Target
	g, err := file.newGraph(options)
	if err != nil {
		return nil, err
	}
	c := &conversion{graph: g, derived: d, means: means, options: o, lines: d.sourceLines(), source: newSource(file.source, file.escape), kept: map[int]*operation.Keep{}, names: map[int]string{}}
	// From the end, for a stage to know what the later ones take of it.
	for _, n := range slices.Backward(g.needed()) {
		if err := c.stage(ctx, n); err != nil {
			return nil, err
		}
	}
	cleared := false // at the end of the stage before
	for _, n := range g.needed() {
		if !cleared {
			c.clear(n)
		}
		cleared = c.clearsItself(n)
	}
	slices.SortStableFunc(c.runs, func(a, b placedRun) int { return a.at - b.at })
	result := &Converted{Content: slices.Concat(file.mark, apply(file.source, c.edits)), Operations: c.operations, Targets: c.targets}
	if target := g.nodes[g.target]; c.targets[0] != target.Name {
		result.TargetStage = automaticArgs(file, options)["TARGETSTAGE"]
	}
	for _, run := range c.runs {
		result.Runs = append(result.Runs, run.Run)
	}
	return result, nil
}

// conversion collects what Convert changes.
type conversion struct {
	*graph
	derived *Derived
	means   *frontend.Definition
	options ConvertOptions
	lines   []int // of the user's Dockerfile, by that of the derived one less 1
	source  *source

	edits      []edit
	operations []operation.Operation
	runs       []placedRun
	kept       map[int]*operation.Keep // by stage
	names      map[int]string          // by stage
	targets    []string
	pending    pending
}

// pending are operations that are to be carried out before the next instruction
// to which they matter.
type pending struct {
	before  []string // instructions that stand before them
	words   []string // their indices, and their digests
	run     Run      // the first of them
	flags   string   // of the RUN that carries them out
	workdir string   // the instruction that stands after them
}

// placedRun is a Run at an offset of the derived Dockerfile.
type placedRun struct {
	Run
	at int
}

// stage converts the instructions of a stage.
func (c *conversion) stage(ctx context.Context, n *node) error {
	c.pending = pending{}
	lines := ""
	start := c.after(n.from)
	user, folder, err := c.fromBase(ctx, n)
	if err != nil {
		return err
	}
	if user && n.parent == none {
		lines = "USER 0:0\n"
	}
	// kaniko expands words as if the escape character were always the backslash.
	user = user || c.file.escape != '\\'
	own := user || folder
	if n.index == c.target {
		c.targets = append(c.targets, c.named(n))
	}
	if n.parent != none {
		triggers := map[string]int{}
		for _, i := range c.nodes[n.parent].body {
			if i.trigger == nil {
				continue
			}
			kind := kindOf(i.trigger)
			text, err := c.instruction(n, i.trigger, frontend.Place{Line: n.from.line, Index: triggers[kind]}, start, true)
			if err != nil {
				return err
			}
			triggers[kind]++
			lines += text
		}
	}
	for _, i := range n.program {
		if !isForeignCopy(i) {
			continue
		}
		if from := i.command.(*instructions.CopyCommand).From; isNumber(from) {
			return c.errorAt(n.from, "the base image's ONBUILD COPY --from="+from+" names a stage by its number, which kaniko would not find", "have a base image whose ONBUILD names the stage")
		}
	}
	c.put(start, start, lines)
	for _, i := range n.body {
		if kindOf(i) == "workdir" {
			own = user
		}
		start := c.source.starts[i.line-1]
		text, err := c.instruction(n, i, frontend.Place{Line: i.line}, start, own)
		if err != nil {
			return err
		}
		c.put(start, c.after(i), text)
	}
	end := c.stageEnd(n)
	if keep := c.kept[n.index]; keep != nil {
		c.keep(n, keep)
	}
	c.put(end, end, c.flush(end))
	return nil
}

// fromBase reports whether the image that a stage goes back to brings a user that
// is not root, and whether it brings a working directory that no instruction
// before the stage has replaced. In either case each RUN is an operation: kaniko
// would have the user for operations too, and does not make the directory.
func (c *conversion) fromBase(ctx context.Context, n *node) (user, folder bool, err error) {
	folder = true
	for ; n.parent != none; n = c.nodes[n.parent] {
		if slices.ContainsFunc(c.nodes[n.parent].body, func(i *instruction) bool { return kindOf(i) == "workdir" }) {
			folder = false
		}
	}
	config := c.derived.derivation.options.Config
	if n.base == scratch || config == nil {
		return false, false, nil
	}
	image, err := config(ctx, n.base)
	if err != nil {
		return false, false, fmt.Errorf("base image %s: %w", n.base, err)
	}
	if image == nil {
		return false, false, nil
	}
	return !IsRoot(image.User), folder && path.Clean("/"+image.WorkingDir) != "/", nil
}

// put replaces part of the derived Dockerfile, unless it is the same.
func (c *conversion) put(start, end int, text string) {
	if text != string(c.file.source[start:end]) {
		c.edits = append(c.edits, edit{start, end, text})
	}
}

// kindOf tells instructions apart as the places of [frontend.Place] do.
func kindOf(i *instruction) string {
	switch i.command.(type) {
	case *instructions.CopyCommand, *instructions.AddCommand:
		return "copy"
	case *instructions.RunCommand:
		return "run"
	case *instructions.WorkdirCommand:
		return "workdir"
	}
	return ""
}

// after is the offset of the line after an instruction.
func (c *conversion) after(i *instruction) int {
	if i.end < len(c.source.starts) {
		return c.source.starts[i.end]
	}
	return len(c.file.source)
}

// instruction returns the lines that take an instruction's place. at is the
// offset where they will be, and own says that a RUN must be an operation.
func (c *conversion) instruction(n *node, i *instruction, place frontend.Place, at int, own bool) (string, error) {
	same := strings.TrimRight(i.text, "\r\n") + "\n"
	if !i.isTriggered(n) {
		same = string(c.file.source[c.source.starts[i.line-1]:c.after(i)])
	}
	var err error
	switch command := i.command.(type) {
	case *instructions.CopyCommand:
		stage := none
		if command.From != "" {
			if stage, err = c.copySource(n, i, command.From); err != nil {
				return "", err
			}
			if stage == none {
				return c.flush(at) + same, nil // an image, which kaniko fetches
			}
		}
		err = c.copy(i, place, stage)
	case *instructions.AddCommand:
		err = c.copy(i, place, none)
	case *instructions.WorkdirCommand:
		mkdir := c.means.Mkdir(place)
		if mkdir == nil {
			c.pending.workdir = "WORKDIR /\n"
			return "", nil
		}
		err = c.call(i, operation.Operation{Mkdir: mkdir}, true)
		c.pending.workdir = "WORKDIR " + strings.ReplaceAll(mkdir.Path, "$", string(c.file.escape)+"$") + "\n"
	case *instructions.RunCommand:
		return c.run(n, i, command, place, at, same, own)
	case *instructions.EnvCommand, *instructions.ArgCommand, *instructions.ShellCommand:
		if c.file.escape != '\\' {
			return "", nil // no RUN is kaniko's, so none needs it
		}
		return same, nil
	}
	if err != nil || c.options.Together {
		return "", err
	}
	return c.flush(at), nil
}

// isTriggered reports whether an instruction of n comes from an ONBUILD.
func (i *instruction) isTriggered(n *node) bool { return !slices.Contains(n.body, i) }

// copy converts a COPY or an ADD; stage is the one that it copies from, or none.
func (c *conversion) copy(i *instruction, place frontend.Place, stage int) error {
	name := ""
	if stage != none {
		name = keptName(stage)
	}
	copies, err := c.means.Copy(place, name)
	if errors.Is(err, frontend.ErrGit) {
		return c.errorAt(i, "ADD of a git repository",
			"clone it in a RUN of a build stage, RUN git clone --depth 1 --branch TAG URL /src, and COPY --from that stage; or have the files in the build context, as a submodule")
	}
	if err != nil {
		return c.errorAt(i, err.Error(), "")
	}
	if copies.Link && slices.ContainsFunc(copies.Actions, func(a operation.CopyAction) bool { return a.Owner.Named() }) {
		return c.errorAt(i, i.keyword()+" --link --chown by a name: the files are a layer of their own, which knows no names, so BuildKit fails too",
			"give numbers, as in --chown=1000:1000, or leave --link out")
	}
	if stage != none {
		for _, a := range copies.Actions {
			if len(a.Include) == 0 {
				c.keeps(stage, operation.KeptPath{Path: a.Src, Wildcard: a.Wildcard})
			}
			for _, pattern := range a.Include {
				c.keeps(stage, operation.KeptPath{Path: path.Join(a.Src, withoutPattern(pattern)), Wildcard: a.Wildcard})
			}
		}
		c.dependsOn(stage)
	}
	return c.call(i, operation.Operation{Copy: copies}, true)
}

// withoutPattern is the folders of a pattern before the first that has a special
// character.
func withoutPattern(pattern string) string {
	var sure []string
	for element := range strings.SplitSeq(pattern, "/") {
		if strings.ContainsAny(element, `*?[\`) {
			break
		}
		sure = append(sure, element)
	}
	return path.Join(sure...)
}

func keptName(stage int) string { return fmt.Sprintf("stage-%d", stage) }

func (c *conversion) keeps(stage int, kept operation.KeptPath) {
	if c.kept[stage] == nil {
		c.kept[stage] = &operation.Keep{Stage: keptName(stage), Digest: c.options.Digest != nil}
	}
	if paths := &c.kept[stage].Paths; !slices.Contains(*paths, kept) {
		*paths = append(*paths, kept)
	}
}

// dependsOn adds an instruction by which kaniko knows that it must build a stage
// before, and that layers of its cache depend on what that has.
func (c *conversion) dependsOn(stage int) {
	marker := c.options.World.Marker(keptName(stage))
	line := fmt.Sprintf("COPY --from=%s %s %s\n", c.named(c.nodes[stage]), marker, marker)
	if !slices.Contains(c.pending.before, line) {
		c.pending.before = append(c.pending.before, line)
	}
}

// run converts a RUN that kaniko would carry out in another way.
func (c *conversion) run(n *node, i *instruction, command *instructions.RunCommand, place frontend.Place, at int, same string, own bool) (string, error) {
	var shown []mount // those that show a stage
	flags, mounts := "", false
	for _, m := range i.mounts() {
		kind, from := m.options["type"], m.options["from"]
		if mounts = mounts || kind == "bind" || kind == "tmpfs"; kind == "cache" || kind == "secret" {
			flags += " " + i.raw(m.flag)
		}
		if kind != "bind" || from == "" || from == scratch {
			continue
		}
		stage := c.last(from, n.index)
		if stage == none {
			return "", c.errorAt(i, fmt.Sprintf("RUN --mount=from=%s: no stage before this one has that name", from), "")
		}
		m.stage = stage
		shown = append(shown, m)
		c.dependsOn(stage)
	}
	stageOf := func(target, dir string) int {
		for _, m := range shown {
			at := m.options["target"]
			if !path.IsAbs(at) {
				at = path.Join("/", dir, at) // the working directory itself where none is given
			}
			if path.Clean(target) == path.Clean(at) {
				return m.stage
			}
		}
		for _, m := range shown {
			if strings.Contains(m.options["target"], "$") {
				return m.stage
			}
		}
		return none
	}
	exec, err := c.means.Exec(place, func(target, dir string) string {
		if stage := stageOf(target, dir); stage != none {
			return keptName(stage)
		}
		return ""
	})
	if err != nil {
		return "", c.errorAt(i, err.Error(), "")
	}
	for _, m := range exec.Mounts {
		if m.From != nil && m.From.Stage != "" {
			c.keeps(stageOf(m.Target, exec.Dir), operation.KeptPath{Path: m.Path})
		}
	}
	plain := !own && !mounts && len(command.Files) == 0 && rootAlone(exec.User) && path.IsAbs(exec.Args[0])
	if plain {
		before := c.flush(at)
		c.runs = append(c.runs, placedRun{Run{Line: c.line(i), Text: i.raw(i.rest), As: i.raw(i.rest)}, at})
		return before + same, nil
	}
	before := c.flush(at) // so that its time is known
	if err := c.call(i, operation.Operation{Exec: exec}, false); err != nil {
		return "", err
	}
	c.pending.flags = flags
	return before + c.flush(at), nil
}

// rootAlone reports whether USER names root and its own group.
func rootAlone(user string) bool {
	return slices.Contains([]string{"", "root", "0", "0:0", "root:root", "0:root", "root:0"}, user)
}

// call adds an operation.
func (c *conversion) call(i *instruction, o operation.Operation, copies bool) error {
	o.Instruction = fmt.Sprintf("%s:%d: %s", c.file.name, c.line(i), shortened(i))
	words := []string{strconv.Itoa(len(c.operations))}
	if c.options.Digest != nil {
		sum, err := c.options.Digest(&o)
		if err != nil {
			return err
		}
		words = append(words, operation.DigestSign+sum)
	}
	run := Run{Line: c.line(i), Text: i.raw(i.rest), Copies: copies}
	if copies {
		run.Text = shortened(i)
	}
	c.add(o, run, words...)
	return nil
}

func (c *conversion) add(o operation.Operation, run Run, words ...string) {
	c.operations = append(c.operations, o)
	if len(c.pending.words) == 0 {
		c.pending.run = run
	}
	c.pending.run.Keeps = c.pending.run.Keeps || run.Keeps
	c.pending.run.Operations = append(c.pending.run.Operations, run.shown())
	c.pending.words = append(c.pending.words, words...)
}

// shown is the instruction on one line.
func (r Run) shown() string {
	if r.Copies {
		return r.Text
	}
	return "RUN " + strings.Join(strings.Fields(r.Text), " ")
}

// flush returns the instructions that carry out what is pending, at an offset.
func (c *conversion) flush(at int) string {
	p := c.pending
	c.pending = pending{}
	text := strings.Join(p.before, "")
	if len(p.words) > 0 {
		encoded, _ := json.Marshal(append(slices.Clone(c.options.Command), p.words...)) // strings alone
		p.run.As = string(encoded)
		c.runs = append(c.runs, placedRun{p.run, at})
		text += "RUN" + p.flags + " " + p.run.As + "\n"
	}
	return text + p.workdir
}

// keep adds the operation that keeps what other stages take of n, as the last
// of the stage.
func (c *conversion) keep(n *node, keep *operation.Keep) {
	for of := n; of != nil && !keep.Ran; of = c.parentOf(of) {
		keep.Ran = slices.ContainsFunc(of.program, func(i *instruction) bool { return kindOf(i) == "run" })
	}
	line := c.lines[n.from.line-1]
	text := "what later stages copy of " + cmp.Or(n.Name, strconv.Itoa(n.index))
	words := []string{strconv.Itoa(len(c.operations))}
	if c.clearsItself(n) {
		words = append(words, operation.ClearSign)
		c.pending.workdir = "" // kaniko would make the folder anew
	}
	c.add(operation.Operation{Instruction: fmt.Sprintf("%s:%d: %s", c.file.name, line, text), Keep: keep},
		Run{Line: line, Text: text, Copies: true, Keeps: true}, words...)
}

// line returns the line of an instruction in the user's Dockerfile.
func (c *conversion) line(i *instruction) int { return c.lines[i.line-1] }

func (c *conversion) errorAt(i *instruction, problem, fix string) *Error {
	return c.file.errorAt(c.line(i), problem, fix)
}

// maxShown is how many characters of an instruction say which one it is.
const maxShown = 80

// shortened is an instruction on one line.
func shortened(i *instruction) string {
	text := []rune(strings.Join(strings.Fields(i.text), " "))
	if len(text) > maxShown {
		text = append(text[:maxShown-1], '…')
	}
	return string(text)
}

// sourceLines returns for each line of the derived Dockerfile the line of the
// user's that it comes from.
func (d *Derived) sourceLines() []int {
	var lines []int
	line, start := 1, true
	copied := func(text []byte, moves bool) {
		for _, char := range text {
			if start {
				lines = append(lines, line)
				start = false
			}
			if char == '\n' {
				start = true
				if moves {
					line++
				}
			}
		}
	}
	done := 0
	edits := slices.Clone(d.derivation.edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.start - b.start })
	for _, e := range edits {
		copied(d.source[done:e.start], true)
		copied([]byte(e.text), false)
		line += bytes.Count(d.source[e.start:e.end], []byte("\n"))
		done = e.end
	}
	copied(d.source[done:], true)
	return lines
}
