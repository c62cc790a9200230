package corpus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/slipway-ci/slipway/internal/frontend"
	"github.com/slipway-ci/slipway/internal/operation"
	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// NotMade is why there is no case for a Dockerfile.
type NotMade struct{ Why string }

func (n *NotMade) Error() string { return n.Why }

// Make makes the folder dir a build context with a Dockerfile that both builders
// can build. It is the Dockerfile of content, but for these:
//
//   - FROM names stand-ins, whose shells record what a RUN gives them; a RUN in
//     the exec form has the recorder before its program;
//   - stages have users that instructions name and no base has;
//   - a stage that others copy from has, in its end, what they copy;
//   - the last stage has the records of the other stages' RUNs.
//
// The images are those that have to be served besides the stand-ins. An error is
// [NotMade] where there can be no case.
func Make(ctx context.Context, content []byte, args map[string]string, dir string) ([]Image, error) {
	m := &maker{images: map[string]map[string]bool{}, lines: strings.SplitAfter(string(content), "\n"), context: map[string]bool{}, users: map[string]bool{}, listed: map[string]bool{}}
	var err error
	if m.means, err = read(ctx, content, "", args); err != nil {
		return nil, &NotMade{err.Error()}
	}
	if err := m.parse(content, args); err != nil {
		return nil, err
	}
	for _, s := range m.stages {
		if err := m.look(s); err != nil {
			return nil, err
		}
	}
	made := m.text()
	if _, err := read(ctx, []byte(made), "", args); err != nil {
		return nil, &NotMade{"the case is wrong: " + err.Error()}
	}
	if err := m.writeContext(dir); err != nil {
		return nil, err
	}
	options, err := json.Marshal(map[string]any{"args": args})
	if err != nil {
		return nil, err
	}
	return m.served(), errors.Join(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(made), 0o644), os.WriteFile(dir+".json", options, 0o644))
}

// Image is one that a case copies from: like a stand-in, but with more files.
type Image struct {
	Ref, Like string
	Paths     []string // those that end with / are folders
}

func (m *maker) served() []Image {
	var images []Image
	for _, name := range slices.Sorted(maps.Keys(m.images)) {
		one := Image{Ref: m.servedAs(name), Like: StandIn(name)}
		for _, file := range slices.Sorted(maps.Keys(m.images[name])) {
			if file = path.Join("/", file); !looksLikeFile(file) || above(file, m.images[name]) {
				file = strings.TrimSuffix(file, "/") + "/"
			}
			one.Paths = append(one.Paths, file)
		}
		images = append(images, one)
	}
	return images
}

// servedAs is the name under which an image is served to this case alone.
func (m *maker) servedAs(image string) string {
	paths := slices.Sorted(maps.Keys(m.images[image]))
	return "served/" + strings.TrimPrefix(digestOf(image+strings.Join(paths, " ")), "sha256:")[:16]
}

// maker collects what a case needs.
type maker struct {
	lines   []string
	means   *frontend.Definition
	stages  []*stage
	context map[string]bool            // paths of the build context, some of them patterns
	users   map[string]bool            // that no stand-in has
	listed  map[string]bool            // where RUNs mount what they may see
	images  map[string]map[string]bool // that instructions read from, with the paths
}

// stage is a FROM with what follows it.
type stage struct {
	instructions.Stage
	index  int
	from   line
	body   []line
	base   string // FROM's image or stage, expanded
	parent *stage // that it is FROM
	dir    string // its last working directory
	user   string // its last user, as the Dockerfile has it
	runs   bool   // has a RUN that is carried out
	copied map[string]bool
}

// line is an instruction with the lines that it takes, the first is 0.
type line struct {
	command    any
	start, end int
	mounts     []mount
}

// mount is a RUN's, as written.
type mount struct{ kind, from, target string }

// mountsOf reads the flags of a RUN.
func mountsOf(flags []string) []mount {
	var mounts []mount
	for _, flag := range flags {
		value, ok := strings.CutPrefix(flag, "--mount=")
		if !ok {
			continue
		}
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			continue
		}
		m := mount{kind: "bind"}
		for _, field := range fields {
			switch name, value, _ := strings.Cut(field, "="); strings.ToLower(name) {
			case "type":
				m.kind = strings.ToLower(value)
			case "from":
				m.from = value
			case "target", "dst", "destination":
				m.target = value
			}
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// at is where a mount is in a working directory.
func (m mount) at(dir string) string {
	if path.IsAbs(m.target) {
		return path.Clean(m.target)
	}
	return path.Join("/", dir, m.target)
}

func (m *maker) parse(content []byte, args map[string]string) error {
	result, err := parser.Parse(strings.NewReader(string(content)))
	if err != nil {
		return &NotMade{err.Error()}
	}
	globals := variables{"TARGETPLATFORM": "linux/amd64", "BUILDPLATFORM": "linux/amd64", "TARGETOS": "linux", "BUILDOS": "linux", "TARGETARCH": "amd64", "BUILDARCH": "amd64"}
	lex := shell.NewLex(result.EscapeToken)
	silent := linter.New(&linter.Config{SkipAll: true})
	for _, node := range result.AST.Children {
		command, err := instructions.ParseInstructionWithLinter(node, silent)
		if err != nil {
			return &NotMade{err.Error()}
		}
		one := line{command, node.StartLine - 1, node.EndLine, mountsOf(node.Flags)}
		switch c := command.(type) {
		case *instructions.Stage:
			s := &stage{Stage: *c, index: len(m.stages), from: one, copied: map[string]bool{}}
			if s.base, _, err = lex.ProcessWord(c.BaseName, globals); err != nil {
				return &NotMade{err.Error()}
			}
			if on, _, err := lex.ProcessWord(c.Platform, globals); err != nil || on != "" && on != "linux/amd64" && on != "linux" {
				return &NotMade{"FROM is of another platform"}
			}
			if s.parent = m.stage(s.base); s.parent != nil {
				s.dir, s.user = s.parent.dir, s.parent.user
			} else if s.base != "scratch" {
				about := standInConfig(s.base)
				s.dir, s.user = about.WorkingDir, about.User
			}
			m.stages = append(m.stages, s)
		case *instructions.ArgCommand:
			if len(m.stages) > 0 {
				m.stages[len(m.stages)-1].body = append(m.stages[len(m.stages)-1].body, one)
				continue
			}
			for _, arg := range c.Args {
				value, given := args[arg.Key]
				if !given && arg.Value != nil {
					if value, _, err = lex.ProcessWord(*arg.Value, globals); err != nil {
						return &NotMade{err.Error()}
					}
				}
				if given || arg.Value != nil {
					globals[arg.Key] = value
				}
			}
		default:
			s := m.stages[len(m.stages)-1]
			s.body = append(s.body, one)
			switch c := c.(type) {
			case *instructions.UserCommand:
				s.user = c.User
			case *instructions.WorkdirCommand:
				s.dir = "/"
				if made := m.means.Mkdir(frontend.Place{Line: node.StartLine}); made != nil {
					s.dir = made.Path
				}
			}
		}
	}
	return nil
}

// variables are those that a FROM may name.
type variables map[string]string

// Get is [shell.EnvGetter]'s.
func (v variables) Get(name string) (string, bool) { value, ok := v[name]; return value, ok }

// Keys is [shell.EnvGetter]'s.
func (v variables) Keys() []string { return slices.Sorted(maps.Keys(v)) }

// stage is the last so far that has a name or a number; nil for none.
func (m *maker) stage(name string) *stage {
	for _, s := range slices.Backward(m.stages) {
		if s.Name != "" && strings.EqualFold(s.Name, name) {
			return s
		}
	}
	return nil
}

// source is the stage that an instruction of s names.
func (m *maker) source(s *stage, name string) *stage {
	if number, err := strconv.Atoi(name); err == nil && number < s.index {
		return m.stages[number]
	}
	for _, other := range slices.Backward(m.stages[:s.index]) {
		if other.Name != "" && strings.EqualFold(other.Name, name) {
			return other
		}
	}
	return nil
}

// readFrom are the paths that are read from what an instruction of s names.
func (m *maker) readFrom(s *stage, name string) map[string]bool {
	if name == "scratch" {
		return map[string]bool{}
	}
	if from := m.source(s, name); from != nil {
		return from.copied
	}
	if m.images[name] == nil {
		m.images[name] = map[string]bool{}
	}
	return m.images[name]
}

// bare reports whether nothing can be run in a stage.
func (s *stage) bare() bool {
	for ; s.parent != nil; s = s.parent {
	}
	return s.base == "scratch"
}

// look finds what the instructions of a stage need to be there.
func (m *maker) look(s *stage) error {
	for _, i := range s.body {
		at := frontend.Place{Line: i.start + 1}
		switch c := i.command.(type) {
		case *instructions.CopyCommand:
			from, name := m.context, ""
			if c.From != "" {
				from, name = m.readFrom(s, c.From), "stage"
			}
			copies, err := m.means.Copy(at, name)
			if err != nil {
				continue // in a stage that is not built
			}
			if err := m.lookAtCopy(copies, from); err != nil {
				return err
			}
		case *instructions.AddCommand:
			copies, err := m.means.Copy(at, "")
			if errors.Is(err, frontend.ErrGit) {
				return &NotMade{"ADD of a git repository"}
			}
			if err != nil {
				continue
			}
			if err := m.lookAtCopy(copies, m.context); err != nil {
				return err
			}
		case *instructions.RunCommand:
			if err := m.lookAtRun(s, i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *maker) lookAtCopy(copies *operation.Copy, from map[string]bool) error {
	for _, a := range copies.Actions {
		if a.From.URL != nil {
			return &NotMade{"ADD of a URL"}
		}
		if a.Owner != nil {
			m.named(a.Owner.User)
			m.named(a.Owner.Group)
		}
		if a.From.Inline != nil {
			continue
		}
		names := []string{a.Src}
		if len(a.Include) > 0 {
			names = nil
			for _, pattern := range a.Include {
				names = append(names, path.Join(a.Src, pattern))
			}
		}
		for _, name := range names {
			if strings.HasSuffix(a.Src, "/") {
				name += "/"
			}
			from[match(name)] = true
		}
	}
	return nil
}

func (m *maker) named(who *operation.Identity) {
	if who != nil && who.Name != "" {
		m.namedUser(who.Name)
	}
}

func (m *maker) namedUser(name string) {
	if _, err := strconv.Atoi(name); err != nil && name != "" && !slices.Contains(oracle.StandInUsers(), name) {
		m.users[name] = true
	}
}

func (m *maker) lookAtRun(s *stage, i line) error {
	exec, err := m.means.Exec(frontend.Place{Line: i.start + 1}, func(target, dir string) string {
		for _, mount := range i.mounts {
			if mount.kind == "bind" && mount.from != "" && mount.from != "scratch" && (mount.at(dir) == path.Clean(target) || strings.Contains(mount.target, "$")) {
				return mount.from
			}
		}
		return ""
	})
	if err != nil {
		return nil //nolint:nilerr // it is in a stage that is not built
	}
	s.runs = true
	user, group, _ := strings.Cut(exec.User, ":")
	m.namedUser(user)
	m.namedUser(group)
	for _, mount := range exec.Mounts {
		switch {
		case mount.From == nil || mount.From.Inline != nil:
		case mount.From.Stage == "":
			m.context[mount.Path] = true
		default:
			m.readFrom(s, mount.From.Stage)[mount.Path] = true
		}
	}
	for _, mount := range i.mounts {
		if target := mount.at(exec.Dir); (mount.kind == "bind" || mount.kind == "tmpfs") && target != path.Clean(exec.Dir) && !strings.Contains(target, "$") {
			m.listed[target] = true
		}
	}
	return nil
}

var sets = regexp.MustCompile(`\[\^?([^\]])[^\]]*\]`)

// match is a path that a pattern matches.
func match(pattern string) string {
	name := sets.ReplaceAllString(pattern, "$1")
	name = strings.ReplaceAll(name, "**", "deep")
	name = strings.ReplaceAll(name, "*", "any")
	name = strings.ReplaceAll(name, "?", "x")
	return strings.ReplaceAll(name, `\`, "")
}

// execForm is a RUN up to the first word of its exec form.
var execForm = regexp.MustCompile(`(?is)^(\s*RUN(?:(?:\s|\\\r?\n)+--\S+)*(?:\s|\\\r?\n)*\[)`)

// text is the case's Dockerfile.
func (m *maker) text() string {
	var out strings.Builder
	done := 0
	copied := func(to int) {
		to = min(to, len(m.lines))
		if done < to {
			out.WriteString(strings.Join(m.lines[done:to], ""))
			done = to
		}
	}
	for _, s := range m.stages {
		copied(s.from.start)
		if s.parent == nil && s.base != "scratch" {
			out.WriteString(m.fromStandIn(s))
			done = s.from.end
			out.WriteString(m.setUp(standInConfig(s.base).User))
		} else {
			copied(s.from.end)
		}
		last := s.from.end
		for _, i := range s.body {
			last = i.end
			text := strings.Join(m.lines[i.start:i.end], "")
			edited := m.edited(i, text)
			if edited != text {
				copied(i.start)
				out.WriteString(edited)
				done = i.end
			}
		}
		copied(last)
		if !strings.HasSuffix(out.String(), "\n") {
			out.WriteString("\n")
		}
		if s.index == len(m.stages)-1 {
			out.WriteString(m.records(s))
		} else {
			out.WriteString(s.tearDown())
		}
	}
	copied(len(m.lines))
	return out.String()
}

// edited is an instruction as the case has it.
func (m *maker) edited(i line, text string) string {
	var from []string
	switch c := i.command.(type) {
	case *instructions.CopyCommand:
		from = append(from, c.From)
	case *instructions.RunCommand:
		if !c.PrependShell && len(c.Files) == 0 {
			text = execForm.ReplaceAllString(text, `$1"/bin/record", "-only", `)
		}
		for _, mount := range i.mounts {
			from = append(from, mount.from)
		}
	}
	for _, image := range from {
		if _, ok := m.images[image]; ok {
			text = strings.Replace(text, "from="+image, "from="+m.servedAs(image), 1)
		}
	}
	return text
}

// fromStandIn is a FROM that names the stand-in of its image.
func (m *maker) fromStandIn(s *stage) string {
	text := strings.Join(m.lines[s.from.start:s.from.end], "")
	text = strings.NewReplacer("\\\r\n", " ", "\\\n", " ").Replace(text)
	words := strings.Fields(text)
	for at, word := range words {
		if at > 0 && !strings.HasPrefix(word, "--") {
			words[at] = StandIn(s.base)
			break
		}
	}
	return strings.Join(words, " ") + "\n"
}

// setUp are the instructions that make the users which no stand-in has, and list
// what RUNs see of mounts; user is the base's.
func (m *maker) setUp(user string) string {
	if len(m.users)+len(m.listed) == 0 {
		return ""
	}
	words := []string{"/bin/record", "-make"}
	for _, name := range slices.Sorted(maps.Keys(m.users)) {
		words = append(words, "user="+name)
	}
	for _, name := range slices.Sorted(maps.Keys(m.listed)) {
		words = append(words, "list="+name)
	}
	return asRoot(words, user)
}

func asRoot(words []string, user string) string {
	encoded, _ := json.Marshal(words) // strings alone
	text := "RUN " + string(encoded) + "\n"
	if user != "" && user != "0" && user != "root" {
		return "USER 0\n" + text + "USER " + user + "\n"
	}
	return text
}

// tearDown are the instructions that make what others copy of the stage.
func (s *stage) tearDown() string {
	if len(s.copied) == 0 || s.bare() {
		return ""
	}
	words := []string{"/bin/record", "-make"}
	for _, name := range slices.Sorted(maps.Keys(s.copied)) {
		kind := "folder="
		if looksLikeFile(name) && !above(name, s.copied) {
			kind = "file="
		}
		name = path.Join("/", name)
		if inside, ok := strings.CutPrefix(name, path.Clean(s.dir)+"/"); ok && s.dir != "/" {
			name = inside
		}
		words = append(words, kind+name)
	}
	return asRoot(words, s.user)
}

// above reports whether one of the paths lies below a folder.
func above(folder string, paths map[string]bool) bool {
	for name := range paths {
		if strings.HasPrefix(path.Join("/", name), path.Join("/", folder)+"/") {
			return true
		}
	}
	return false
}

// records are the instructions that bring the records of other stages' RUNs.
func (m *maker) records(last *stage) string {
	own := map[*stage]bool{}
	for s := last; s != nil; s = s.parent {
		own[s] = true
	}
	var text strings.Builder
	for _, s := range m.stages {
		if s.runs && !own[s] && !s.bare() {
			fmt.Fprintf(&text, "COPY --from=%d /rec/runs /rec/stage-%d\n", s.index, s.index)
		}
	}
	return text.String()
}

// contents are what each build context has besides what is named.
var contents = map[string]string{
	"go.mod": "module example.com/app\n\ngo 1.25\n", "go.sum": "", "main.go": "package main\n\nfunc main() {}\n",
	"internal/a/a.go": "package a\n", "README.md": "an app\n", "scripts/run.sh": "#!/bin/sh\n",
}

// writeContext makes the build context.
func (m *maker) writeContext(dir string) error {
	for name, content := range contents {
		if err := write(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.context)) {
		to := filepath.Join(dir, path.Join("/", name))
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if !looksLikeFile(name) || above(name, m.context) {
			to = filepath.Join(to, "a-file")
		}
		if err := write(to, name+"\n"); err != nil {
			return &NotMade{"its context cannot be made: " + err.Error()}
		}
	}
	return os.Chmod(filepath.Join(dir, "scripts/run.sh"), 0o750)
}

func write(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(content), 0o644)
}
