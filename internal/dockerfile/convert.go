package dockerfile

import (
	"bytes"
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
	// Digest returns a digest of what an operation takes of the build context,
	// where kaniko's layer cache depends on it; nil where there is none.
	Digest func(*operation.Operation) (string, error)
}

// Converted is the Dockerfile that kaniko builds.
type Converted struct {
	Content    []byte
	Operations []operation.Operation
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
	c := &conversion{graph: g, derived: d, means: means, options: o, lines: d.sourceLines(), source: newSource(file.source, file.escape), kept: map[int]*operation.Keep{}}
	for _, n := range g.needed() {
		if err := c.stage(ctx, n); err != nil {
			return nil, err
		}
	}
	for _, n := range g.needed() {
		if keep := c.kept[n.index]; keep != nil {
			c.keep(n, keep)
		}
	}
	slices.SortStableFunc(c.runs, func(a, b placedRun) int { return a.at - b.at })
	result := &Converted{Content: slices.Concat(file.mark, apply(file.source, c.edits)), Operations: c.operations}
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
}

// placedRun is a Run at an offset of the derived Dockerfile.
type placedRun struct {
	Run
	at int
}

// stage converts the instructions of a stage.
func (c *conversion) stage(ctx context.Context, n *node) error {
	end := c.after(n.from)
	user := false // whether kaniko takes a user from the base image
	if n.parent == none && n.base != scratch && c.derived.derivation.options.Config != nil {
		image, err := c.derived.derivation.options.Config(ctx, n.base)
		if err != nil {
			return fmt.Errorf("base image %s: %w", n.base, err)
		}
		if user = image != nil && !IsRoot(image.User); user {
			c.edits = append(c.edits, edit{end, end, "USER 0:0\n"})
		}
	}
	if n.parent != none {
		triggers := map[string]int{}
		for _, i := range c.nodes[n.parent].body {
			if i.trigger == nil {
				continue
			}
			kind := kindOf(i.trigger)
			text, err := c.instruction(n, i.trigger, frontend.Place{Line: n.from.line, Index: triggers[kind]}, end, true)
			if err != nil {
				return err
			}
			triggers[kind]++
			c.edits = append(c.edits, edit{end, end, text})
		}
	}
	for _, i := range n.body {
		start := c.source.starts[i.line-1]
		text, err := c.instruction(n, i, frontend.Place{Line: i.line}, start, user)
		if err != nil {
			return err
		}
		if end := c.after(i); text != string(c.file.source[start:end]) {
			c.edits = append(c.edits, edit{start, end, text})
		}
	}
	return nil
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
	switch command := i.command.(type) {
	case *instructions.CopyCommand:
		stage := none
		if command.From != "" {
			var err error
			if stage, err = c.copySource(n, i, command.From); err != nil {
				return "", err
			}
			if stage == none {
				return same, nil // an image, which kaniko fetches
			}
		}
		return c.copy(i, place, at, stage)
	case *instructions.AddCommand:
		return c.copy(i, place, at, none)
	case *instructions.WorkdirCommand:
		mkdir := c.means.Mkdir(place)
		if mkdir == nil || mkdir.Owner == nil {
			return same, nil
		}
		// kaniko would make it root's, as it has no user.
		line, err := c.call(i, at, operation.Operation{Mkdir: mkdir}, "", false)
		return line + same, err
	case *instructions.RunCommand:
		return c.run(n, i, command, place, at, same, own)
	case *instructions.EnvCommand, *instructions.ArgCommand, *instructions.ShellCommand:
		return same, nil
	}
	return "", nil // it only sets the configuration
}

// isTriggered reports whether an instruction of n comes from an ONBUILD.
func (i *instruction) isTriggered(n *node) bool { return !slices.Contains(n.body, i) }

// copy converts a COPY or an ADD; stage is the one that it copies from, or none.
func (c *conversion) copy(i *instruction, place frontend.Place, at, stage int) (string, error) {
	name := ""
	if stage != none {
		name = keptName(stage)
	}
	copies, err := c.means.Copy(place, name)
	if errors.Is(err, frontend.ErrGit) {
		return "", c.errorAt(i, "ADD of a git repository",
			"clone it in a RUN of a build stage, RUN git clone --depth 1 --branch TAG URL /src, and COPY --from that stage; or have the files in the build context, as a submodule")
	}
	if err != nil {
		return "", c.errorAt(i, err.Error(), "")
	}
	before := ""
	if stage != none {
		for _, a := range copies.Actions {
			if len(a.Include) == 0 {
				c.keeps(stage, operation.KeptPath{Path: a.Src, Wildcard: a.Wildcard})
			}
			for _, pattern := range a.Include {
				c.keeps(stage, operation.KeptPath{Path: path.Join(a.Src, withoutPattern(pattern)), Wildcard: a.Wildcard})
			}
		}
		before = c.dependsOn(stage)
	}
	line, err := c.call(i, at, operation.Operation{Copy: copies}, "", true)
	return before + line, err
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
		c.kept[stage] = &operation.Keep{Stage: keptName(stage), Skip: c.derived.derivation.options.Mounted, Digest: c.options.Digest != nil}
	}
	if paths := &c.kept[stage].Paths; !slices.Contains(*paths, kept) {
		*paths = append(*paths, kept)
	}
}

// dependsOn is an instruction by which kaniko knows that it must build a stage
// before, and that layers of its cache depend on what that has.
func (c *conversion) dependsOn(stage int) string {
	name := c.nodes[stage].Name
	if name == "" {
		name = strconv.Itoa(stage)
	}
	marker := c.options.World.Marker(keptName(stage))
	return fmt.Sprintf("COPY --from=%s %s %s\n", name, marker, marker)
}

// run converts a RUN that kaniko would carry out in another way.
func (c *conversion) run(n *node, i *instruction, command *instructions.RunCommand, place frontend.Place, at int, same string, own bool) (string, error) {
	var shown []mount // those that show a stage
	before, flags, mounts := "", "", false
	for _, m := range i.mounts() {
		kind, from := m.options["type"], m.options["from"]
		if mounts = mounts || kind == "bind" || kind == "tmpfs"; kind == "cache" || kind == "secret" {
			flags += " " + i.raw(m.flag)
		}
		if kind != "bind" || from == "" {
			continue
		}
		stage := c.last(from, n.index)
		if stage == none {
			return "", c.errorAt(i, fmt.Sprintf("RUN --mount=from=%s: no stage before this one has that name", from), "")
		}
		m.stage = stage
		shown = append(shown, m)
		before += c.dependsOn(stage)
	}
	stageOf := func(target string) int {
		for _, m := range shown {
			if path.Clean(target) == path.Clean(m.options["target"]) || strings.HasSuffix(path.Clean(target), path.Join("/", m.options["target"])) {
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
	exec, err := c.means.Exec(place, func(target string) string {
		if stage := stageOf(target); stage != none {
			return keptName(stage)
		}
		return ""
	})
	if err != nil {
		return "", c.errorAt(i, err.Error(), "")
	}
	for _, m := range exec.Mounts {
		if m.From != nil && m.From.Stage != "" {
			c.keeps(stageOf(m.Target), operation.KeptPath{Path: m.Path})
		}
	}
	if !own && !mounts && len(command.Files) == 0 && rootAlone(exec.User) {
		c.runs = append(c.runs, placedRun{Run{Line: c.line(i), Text: i.raw(i.rest), As: i.raw(i.rest)}, at})
		return same, nil
	}
	line, err := c.call(i, at, operation.Operation{Exec: exec}, flags, false)
	return before + line, err
}

// rootAlone reports whether USER names root and its own group.
func rootAlone(user string) bool {
	return slices.Contains([]string{"", "root", "0", "0:0", "root:root", "0:root", "root:0"}, user)
}

// call adds an operation and returns the RUN that carries it out.
func (c *conversion) call(i *instruction, at int, o operation.Operation, flags string, copies bool) (string, error) {
	o.Instruction = fmt.Sprintf("%s:%d: %s", c.file.name, c.line(i), shortened(i))
	words := append(slices.Clone(c.options.Command), strconv.Itoa(len(c.operations)))
	if c.options.Digest != nil {
		sum, err := c.options.Digest(&o)
		if err != nil {
			return "", err
		}
		words = append(words, sum)
	}
	c.operations = append(c.operations, o)
	encoded, err := json.Marshal(words)
	if err != nil {
		return "", err
	}
	run := Run{Line: c.line(i), Text: i.raw(i.rest), As: string(encoded), Copies: copies}
	if copies {
		run.Text = shortened(i)
	}
	c.runs = append(c.runs, placedRun{run, at})
	return "RUN" + flags + " " + string(encoded) + "\n", nil
}

// keep adds the operation that keeps what other stages take of n, as the last
// of the stage.
func (c *conversion) keep(n *node, keep *operation.Keep) {
	words := append(slices.Clone(c.options.Command), strconv.Itoa(len(c.operations)))
	encoded, _ := json.Marshal(words) // strings alone
	line := c.lines[n.from.line-1]
	text := "what later stages copy of " + cmpOr(n.Name, strconv.Itoa(n.index))
	c.operations = append(c.operations, operation.Operation{Instruction: fmt.Sprintf("%s:%d: %s", c.file.name, line, text), Keep: keep})
	at := c.stageEnd(n)
	newline := ""
	if at > 0 && c.file.source[at-1] != '\n' {
		newline = "\n"
	}
	c.edits = append(c.edits, edit{at, at, newline + "RUN " + string(encoded) + "\n"})
	c.runs = append(c.runs, placedRun{Run{Line: line, Text: text, As: string(encoded), Copies: true}, at})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// stageEnd is the offset of the line of the next stage's FROM.
func (c *conversion) stageEnd(n *node) int {
	if n.index+1 == len(c.nodes) {
		return len(c.file.source)
	}
	return bytes.LastIndexByte(c.file.source[:c.nodes[n.index+1].from.at[0]], '\n') + 1
}

// line is where an instruction stands in the user's Dockerfile.
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
