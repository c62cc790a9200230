package dockerfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// place is a path in a stage's file system, where an instruction names it.
type place struct {
	in   *instruction
	role role // of the path in the instruction
	word span
	of   int // the stage whose file system it is in; none for an image's
	vars variables
	full string // absolute; "" where only the base image knows

	mount mount // of a bound path
}

type role int

const (
	workdir role = iota
	destination
	bound  // the target of a RUN --mount of the context or a cache
	copied // a source of COPY --from
)

// movePaths looks at every path that the stages that matter copy to. One that
// lies where kaniko drops it is moved in a build stage if it can be. In the
// target and what it is FROM it is part of the image, and refused.
func (d *derivation) movePaths() error {
	moves := moves{}
	for _, n := range d.needed() {
		for _, p := range n.places {
			if err := d.checkBrought(n, p); err != nil {
				return err
			}
			mount := d.mount(p.full)
			if mount == "" || p.role == copied {
				continue
			}
			switch {
			case !n.final && movable(mount) && !p.in.isForeign:
				if moves[n.index][mount] == "" {
					to := d.moved(mount)
					for _, kin := range d.kin(n) {
						moves.add(kin.index, mount, to)
					}
				}
			case p.role == workdir:
				d.noted = append(d.noted, Note{p.in.line, fmt.Sprintf("%s is not in the image, since %s is a mount of the build pod; container runtimes make a working directory that is missing", p.full, mount)})
			default:
				return d.dropped(p.in, "what "+p.in.keyword()+" puts into "+p.full, mount, "")
			}
		}
	}
	for _, n := range d.needed() {
		for mount := range moves[n.index] {
			for kin := n; ; kin = d.nodes[kin.parent] {
				if err := d.checkMentions(kin, mount); err != nil {
					return err
				}
				if kin.parent == none {
					break
				}
			}
		}
	}
	for _, n := range d.needed() {
		if err := d.rewrite(n, moves); err != nil {
			return err
		}
		d.moveInRuns(n, moves)
	}
	return nil
}

// varRun is ignored by kaniko because a param says so: nothing is mounted there.
const varRun = "/var/run"

// dropped refuses an instruction whose files would not be in the image.
func (d *derivation) dropped(i *instruction, files, mount, or string) *Error {
	if mount == varRun {
		return d.file.errorAt(i.line, fmt.Sprintf("%s would not be in the image: the param ignore-var-run leaves %s out", files, varRun),
			`set the param ignore-var-run to "false", or copy to another directory, such as /run`)
	}
	return d.file.errorAt(i.line, fmt.Sprintf("%s would not be in the image: %s is a mount of the build pod", files, mount), "copy to another directory, such as /app"+or)
}

// ofEveryContainer are mounts that hide what an image has there from whatever
// runs in it.
var ofEveryContainer = strings.Fields("/dev /proc /sys /etc/hosts /etc/hostname /etc/resolv.conf")

// checkBrought refuses to copy a folder of the build context to one above a
// mounted path if it has files for that, of which kaniko would say nothing.
func (d *derivation) checkBrought(n *node, p place) error {
	for _, mount := range d.options.Mounted {
		file := d.brings(n, p, path.Clean(mount))
		switch {
		case file == "":
		case slices.Contains(ofEveryContainer, mount):
			d.noted = append(d.noted, Note{p.in.line, fmt.Sprintf("kaniko drops %s, which %s puts into %s: that is a mount of each container", file, p.in.keyword(), mount)})
		default:
			return d.dropped(p.in, file+", which "+p.in.keyword()+" puts into "+mount+",", mount, ", or name "+file+" in .dockerignore")
		}
	}
	return nil
}

// moves holds for each stage what is moved in it: a mounted path, and the path
// that takes its place.
type moves map[int]map[string]string

func (m moves) add(stage int, mount, to string) {
	if m[stage] == nil {
		m[stage] = map[string]string{}
	}
	m[stage][mount] = to
}

// of is where a path of a stage ends up, and the mount it is moved away from,
// "" if it is not.
func (m moves) of(stage int, full string) (to, mount string) {
	for mount, to := range m[stage] {
		if within(full, mount) {
			return to + full[len(mount):], mount
		}
	}
	return full, ""
}

// trace follows WORKDIR and the variables through a stage, and collects its
// places. Its parent has been traced.
func (d *derivation) trace(n *node) {
	vars, folder := d.startVariables(n), d.startFolder(n, func(parent *node) string { return parent.folder })
	lex := shell.NewLex(d.file.escape)
	expand := func(word string) *string {
		value, missing, err := lex.ProcessWord(word, vars)
		if err != nil || len(missing) > 0 && !vars.complete {
			return nil
		}
		return &value
	}
	for _, i := range n.program {
		add := func(p place, folder string) string {
			p.in, p.vars = i, vars
			p.full = d.resolve(p, i.raw(p.word), folder)
			n.places = append(n.places, p)
			return p.full
		}
		use := func(role role, of int, word span, folder string) string {
			return add(place{role: role, word: word, of: of}, folder)
		}
		switch c := i.command.(type) {
		case *instructions.ArgCommand:
			args := map[string]*string{}
			for _, arg := range c.Args {
				if value, ok := d.options.BuildArgs[arg.Key]; ok {
					args[arg.Key] = &value
				} else if arg.Value != nil {
					args[arg.Key] = expand(*arg.Value)
				} else if value, ok := d.globals[arg.Key]; ok {
					args[arg.Key] = &value
				}
			}
			vars.args = merged(vars.args, args)
		case *instructions.EnvCommand:
			env := map[string]*string{}
			for _, pair := range c.Env {
				env[pair.Key] = expand(pair.Value)
			}
			vars.env = merged(vars.env, env)
		case *instructions.WorkdirCommand:
			folder = use(workdir, n.index, i.args[0], folder)
		case *instructions.AddCommand:
			use(destination, n.index, i.args[len(i.args)-1], folder)
		case *instructions.CopyCommand:
			if c.From != "" {
				of, _ := d.copySource(n, i, c.From) // need has seen it succeed
				for _, word := range i.args[:len(i.args)-1] {
					use(copied, of, word, "/")
				}
			}
			use(destination, n.index, i.args[len(i.args)-1], folder)
		case *instructions.RunCommand:
			for _, target := range i.mountTargets() {
				add(place{role: bound, word: target.word, of: n.index, mount: target.mount}, folder)
			}
		}
		for _, source := range contextSources(i) {
			n.sources = append(n.sources, contextSource{in: i, word: source, vars: vars})
		}
	}
	n.vars, n.folder = vars, folder
}

// startVariables are those a stage begins with.
func (d *derivation) startVariables(n *node) variables {
	if n.parent != none {
		return d.nodes[n.parent].vars
	}
	vars := variables{complete: n.image != nil || n.base == scratch}
	env := map[string]*string{}
	for name, value := range n.baseEnv() {
		env[name] = &value
	}
	vars.env = env
	return vars
}

// startFolder is the directory a stage begins in; "" where its image decides.
func (d *derivation) startFolder(n *node, end func(parent *node) string) string {
	switch {
	case n.parent != none:
		return end(d.nodes[n.parent])
	case n.base == scratch:
		return "/"
	case n.image != nil:
		return path.Join("/", n.image.WorkingDir)
	}
	return ""
}

// resolve is the absolute path that raw means at p, seen from folder; "" where
// it depends on what only the base image knows.
func (d *derivation) resolve(p place, raw, folder string) string {
	word := raw
	if p.in.json && p.role != bound { // a flag is no part of the list
		if err := json.Unmarshal([]byte(raw), &word); err != nil {
			return ""
		}
	}
	value, missing, err := shell.NewLex(d.file.escape).ProcessWord(word, p.vars)
	if err != nil {
		return ""
	}
	// A path with an unknown part may still be meant for a mount: ${DIR:-/workspace}.
	if len(missing) > 0 && !p.vars.complete && !slices.ContainsFunc(d.options.Mounted, func(mount string) bool { return mentions(word, mount) >= 0 }) {
		return ""
	}
	switch {
	case path.IsAbs(value):
		return path.Clean(value)
	case folder == "":
		return ""
	}
	return path.Join(folder, value)
}

// rewrite gives the paths of a stage the form that moves asks for.
func (d *derivation) rewrite(n *node, moves moves) error {
	folder := d.startFolder(n, func(parent *node) string { return parent.movedFolder })
	if to, mount := moves.of(n.index, folder); n.parent == none && mount != "" {
		d.insertAfter(n.from, "WORKDIR "+to, fmt.Sprintf("the base image's is in %s, a mount of the build pod", mount))
		folder = to
	}
	for _, p := range n.places {
		from := folder
		if p.role == copied {
			from = "/"
			for mount := range moves[p.of] {
				if !within(p.full, mount) && covers(p.full, mount) {
					return d.stuck(p.in.line, mount, fmt.Sprintf("COPY takes %s along", mount))
				}
			}
		}
		want, mount := moves.of(p.of, p.full)
		if c, ok := p.in.command.(*instructions.CopyCommand); ok && c.Parents && p.role == copied && mount != "" {
			return d.stuck(p.in.line, mount, "with --parents COPY makes the path itself")
		}
		if raw := p.in.raw(p.word); p.full != "" && d.resolve(p, raw, from) != want {
			text := substitute(raw, mount, moves[p.of][mount])
			fixed := p.in.isForeign || !slices.Contains(n.body, p.in) && d.nodes[n.parent].final
			if fixed || d.resolve(p, text, from) != want {
				return d.stuck(p.in.line, mount, fmt.Sprintf("%s reaches it by way of %s", p.in.keyword(), raw))
			}
			d.replace(p.in, p.word, p.written(text, want), fmt.Sprintf("kaniko drops what is copied to %s, a mount of the build pod", mount))
		} else if p.full != "" && !p.in.isForeign {
			d.replace(p.in, p.word, p.written(raw, want), "the path as kaniko needs it")
		}
		if p.role == workdir {
			folder = want
		}
	}
	n.movedFolder = folder
	return nil
}

// written is how kaniko must read a path. For a mount's target it does not look
// at WORKDIR, and it moves what is there, which a slash after a link prevents.
func (p place) written(text, full string) string {
	switch {
	case p.role != bound:
		return text
	case !path.IsAbs(text):
		return full
	case full == "/":
		return full
	}
	return strings.TrimRight(text, "/")
}

// substitute puts to in place of mount at the start of a word, whether that is
// quoted, absolute or relative to the root.
func substitute(raw, mount, to string) string {
	body := strings.TrimLeft(raw, `"'`)
	for _, root := range []string{"/", "", "./"} {
		if rest, ok := strings.CutPrefix(body, root+mount[1:]); ok {
			return raw[:len(raw)-len(body)] + root + to[1:] + rest
		}
	}
	return raw
}

// kin are the build stages that share their file system's beginnings with n, n
// included: a path that moves in one moves in all.
func (d *derivation) kin(n *node) []*node {
	root := func(n *node) *node {
		for n.parent != none && !d.nodes[n.parent].final {
			n = d.nodes[n.parent]
		}
		return n
	}
	return slices.DeleteFunc(d.needed(), func(other *node) bool { return other.final || root(other) != root(n) })
}

// checkMentions refuses a move where a stage also names the path in a way that
// cannot move along. CMD, LABEL and their like do no harm: the image of a build
// stage is thrown away.
func (d *derivation) checkMentions(n *node, mount string) error {
	for name, value := range n.baseEnv() {
		if mentions(value, mount) >= 0 {
			return d.stuck(n.from.line, mount, "the base image's ENV "+name+" names it")
		}
	}
	for _, i := range n.program {
		var values []string
		own := false // whether the instruction's own words count
		switch c := i.command.(type) {
		case *instructions.RunCommand, *instructions.EnvCommand, *instructions.VolumeCommand, *instructions.ShellCommand:
			own = true
		case *instructions.ArgCommand:
			own = true
			for _, arg := range c.Args {
				values = append(values, d.options.BuildArgs[arg.Key])
				if arg.Value == nil {
					values = append(values, d.globals[arg.Key])
				}
			}
		}
		if own {
			if at := mentions(i.withoutMountTargets(), mount); at >= 0 && !d.movesInRun(n, i, mount) {
				line := i.line
				if !i.isForeign {
					line = d.lineOf(i.at[at])
				}
				return d.stuck(line, mount, i.keyword()+" names it")
			}
		}
		if slices.ContainsFunc(values, func(value string) bool { return mentions(value, mount) >= 0 }) {
			return d.stuck(i.line, mount, i.keyword()+" is given it")
		}
		for _, heredoc := range i.heredocs {
			if mentions(heredoc.Content, mount) >= 0 {
				return d.stuck(d.heredocLine(i, mount), mount, "the heredoc names it")
			}
		}
	}
	return nil
}

// movesInRun reports whether each mention of a path in a RUN is an argument that
// names a file to a command, so that another path in its place does the same.
func (d *derivation) movesInRun(n *node, i *instruction, mount string) bool {
	c, ok := i.command.(*instructions.RunCommand)
	if !ok || i.isForeign || len(i.heredocs) > 0 {
		return false
	}
	if !slices.Contains(n.body, i) && d.nodes[n.parent].final {
		return false // it is in the image too, as an ONBUILD
	}
	whole := regexp.MustCompile(`^(?:-o=?|-C=?|-chdir=|--?(?:modfile|overlay|pgo|coverprofile|output|target-directory)=)?/+` + regexp.QuoteMeta(mount[1:]) + `(?:/[\w.@+~-]+)*/?$`)
	count := 0
	for _, command := range commands(strings.Join(c.CmdLine, " ")) {
		for n, word := range command {
			if mentions(word, mount) < 0 {
				continue
			}
			if !whole.MatchString(word) || n > 0 && !slices.Contains(namesFiles, path.Base(command[0])) {
				return false
			}
			count++
		}
	}
	// What is in quotes, an assignment or a substitution was no word of a command.
	return count > 0 && count == len(allMentions(i.withoutMountTargets(), mount))
}

// namesFiles are commands whose arguments that look like a path are one.
var namesFiles = strings.Fields("[ cat cd chgrp chmod chown cmp cp du file find go gofmt head install ln ls mkdir mktemp mv readlink rm rmdir sha256sum stat strip tail tar test touch tree upx wc")

// allMentions are the offsets at which text names a path, after the slash that
// the path starts with.
func allMentions(text, mount string) []int {
	var all []int
	name := strings.TrimPrefix(path.Clean(mount), "/")
	for from := 0; ; {
		at := mentions(text[from:], mount)
		if at < 0 {
			return all
		}
		start := from + at + strings.Index(text[from+at:], name)
		all = append(all, start)
		from = start + len(name)
	}
}

// moveInRuns gives the RUNs of a stage the paths that moves asks for.
func (d *derivation) moveInRuns(n *node, moves moves) {
	for _, i := range n.program {
		if _, ok := i.command.(*instructions.RunCommand); !ok || i.isForeign {
			continue
		}
		for mount, to := range moves[n.index] {
			for _, at := range allMentions(i.withoutMountTargets(), mount) {
				d.replace(i, span{at, at + len(mount) - 1}, to[1:], fmt.Sprintf("kaniko drops what is written to %s, a mount of the build pod", mount))
			}
		}
	}
}

// stuck is the refusal of a Dockerfile that would need a path moved which
// cannot be.
func (d *derivation) stuck(line int, mount, why string) *Error {
	problem := fmt.Sprintf("kaniko drops what is copied to %s, a mount of the build pod", mount)
	if first := d.firstUse(mount); first != line {
		problem += fmt.Sprintf(" (line %d)", first)
	}
	return d.file.errorAt(line, fmt.Sprintf("%s, and it cannot be moved: %s", problem, why), "use another directory, such as /src")
}

// firstUse is the line of the first instruction that a move is for.
func (d *derivation) firstUse(mount string) int {
	line := 0
	for _, n := range d.needed() {
		for _, p := range n.places {
			if p.role == copied || d.mount(p.full) != mount {
				continue
			}
			if p.role == destination {
				return p.in.line
			}
			if line == 0 {
				line = p.in.line
			}
		}
	}
	return line
}

func (d *derivation) lineOf(offset int) int {
	return 1 + bytes.Count(d.file.source[:offset], []byte("\n"))
}

func (d *derivation) heredocLine(i *instruction, mount string) int {
	n := 0
	for line := range bytes.Lines(d.file.source) {
		n++
		if n > i.line && n <= i.end && mentions(string(line), mount) >= 0 {
			return n
		}
	}
	return i.line
}

// mount is the outermost mounted path that full lies in, "" for none.
func (d *derivation) mount(full string) string {
	outermost := ""
	for _, mount := range d.options.Mounted {
		if mount = path.Clean(mount); mount != "/" && within(full, mount) && (outermost == "" || len(mount) < len(outermost)) {
			outermost = mount
		}
	}
	return outermost
}

// movable reports whether a mounted path has no meaning but what the Dockerfile
// gives it, so that another can take its place: /workspace, not /etc/hosts.
func movable(mount string) bool {
	return strings.Count(mount, "/") == 1 && !slices.Contains(systemFolders, mount[1:])
}

// systemFolders are those of the Filesystem Hierarchy Standard
// (https://refspecs.linuxfoundation.org/FHS_3.0/fhs/index.html).
var systemFolders = strings.Fields("bin boot dev etc home lib lib32 lib64 media mnt opt proc root run sbin srv sys tmp usr var")

// moved is the path that takes a mounted one's place: beside it, so that ".."
// leads to the same place, and the same in every build, as a build without
// -trimpath has it in the binary.
func (d *derivation) moved(mount string) string {
	dir, base := path.Split(mount)
	to := dir + "slipway-" + base
	for bytes.Contains(d.file.source, []byte(to)) || slices.ContainsFunc(d.options.Mounted, func(other string) bool { return within(other, to) }) {
		to += "x"
	}
	return to
}

// within reports whether full is folder or lies in it.
func within(full, folder string) bool {
	rest, ok := strings.CutPrefix(full, folder)
	return ok && (rest == "" || rest[0] == '/')
}

// covers reports whether a pattern takes full along: it matches full or a
// folder above it.
func covers(pattern, full string) bool {
	if pattern == "" {
		return false
	}
	if pattern == "/" {
		return true
	}
	parts := strings.Split(full, "/")
	depth := min(strings.Count(pattern, "/")+1, len(parts))
	head := strings.Join(strings.Split(pattern, "/")[:depth], "/")
	ok, err := path.Match(head, strings.Join(parts[:depth], "/"))
	return ok && err == nil
}

// mentions is where text names the absolute path mount or something in it, as
// opposed to a path that only ends in it or starts like it; -1 for nowhere.
func mentions(text, mount string) int {
	name := regexp.QuoteMeta(strings.TrimPrefix(path.Clean(mount), "/"))
	if name == "" {
		return -1
	}
	at := regexp.MustCompile(`(?:^|\.\.|[^\w./}~*?)\]:])/+` + name + `(?:$|[^\w.-])|:/` + name + `(?:$|[^\w.-])`).FindStringIndex(text)
	if at == nil {
		return -1
	}
	return at[0]
}

// variables are what ENV and ARG have set; ENV wins, as it does in kaniko. nil
// stands for a value that depends on the base image.
type variables struct {
	env, args map[string]*string
	complete  bool // what the base image sets is among them
}

// Get is for the shell lexer, to which an unknown value is as good as none.
func (v variables) Get(name string) (string, bool) {
	value, ok := v.env[name]
	if !ok {
		value = v.args[name]
	}
	if value == nil {
		return "", false
	}
	return *value, true
}

// Keys is for the shell lexer, which calls it for Windows only.
func (v variables) Keys() []string { return nil }

func merged(a, b map[string]*string) map[string]*string {
	all := map[string]*string{}
	for _, from := range []map[string]*string{a, b} {
		for name, value := range from {
			all[name] = value
		}
	}
	return all
}
