package dockerfile

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// Base is an image that a stage is built on which the target needs.
type Base struct {
	Ref string // as Pin gave it
	// Final says whether its layers are in the target's image.
	Final bool
}

// bases are the images of the stages that matter, in the order of the file.
func (d *derivation) bases() []Base {
	var bases []Base
	for _, n := range d.needed() {
		if n.ref != "" {
			bases = append(bases, Base{Ref: n.ref, Final: n.final})
		}
	}
	for _, ref := range d.copiedFrom {
		bases = append(bases, Base{Ref: ref})
	}
	return bases
}

// CopiesTo finds the first COPY or ADD, in the stages that the target needs,
// that puts files at an ignored path, which may be a pattern as kaniko has them,
// or into it; nil for none.
func (d *Derived) CopiesTo(ignored string) *Note {
	depth := strings.Count(ignored, "/")
	for _, n := range d.derivation.needed() {
		for _, p := range n.places {
			if p.role == destination && (strings.Count(p.full, "/") >= depth && covers(ignored, p.full) || d.derivation.brings(n, p, ignored) != "") {
				return &Note{p.in.line, p.in.keyword() + " copies to " + p.full}
			}
		}
	}
	return nil
}

// goRootVariable is how a script asks for the toolchain's place without naming
// it, and toolInstall what puts programs there.
var (
	goRootVariable = regexp.MustCompile(`\bGOROOT\b`)
	toolInstall    = regexp.MustCompile(`\bgo\s+install\b[^;&|\n]*\s(?:std|cmd)\b`)
)

// Reaches finds the first instruction, in the stages that the target needs, to
// which it may matter that the Go toolchain at the absolute path goRoot is kept
// apart from the image's other files: that its folders are links, that what is
// written there is in no layer, and that it is there in every stage. Running
// its programs is no such thing. nil is none.
//
// What the scripts of a build context do is not looked into.
func (d *Derived) Reaches(goRoot string) *Note { return d.derivation.reaches(goRoot, true) }

// ReachesFile is Reaches for a single file, which is another than the image's.
func (d *Derived) ReachesFile(file string) *Note { return d.derivation.reaches(file, false) }

func (d *derivation) reaches(full string, toolchain bool) *Note {
	note := func(i *instruction, format string, args ...any) *Note {
		return &Note{Line: i.line, Text: i.keyword() + " " + fmt.Sprintf(format, args...)}
	}
	for _, n := range d.needed() {
		for _, p := range n.places {
			above := len(p.full) > 1 && within(full, p.full)
			switch {
			case p.full == "":
				// The base image's folder, which is not Go's (gocache.extract).
				if goRootVariable.MatchString(p.in.raw(p.word)) {
					return note(p.in, "names GOROOT")
				}
			case p.role == copied && (covers(p.full, full) || within(p.full, full)):
				return note(p.in, "copies from %s", full)
			case p.role == destination && (within(p.full, full) || above || d.brings(n, p, full) != ""):
				return note(p.in, "copies to %s", p.full)
			case p.role == workdir && (within(p.full, full) || above && n.final):
				return note(p.in, "makes %s", p.full)
			}
		}
		for _, i := range n.program {
			text := i.text + heredocText(i)
			switch c := i.command.(type) {
			case *instructions.RunCommand:
				switch {
				case toolInstall.MatchString(text):
					return note(i, "installs parts of Go itself")
				case goRootVariable.MatchString(text):
					return note(i, "names GOROOT")
				}
			case *instructions.EnvCommand:
				text = ""
				for _, pair := range c.Env {
					if pair.Key != "GOROOT" || pair.Value != full && (toolchain || pair.Value != path.Dir(full)) {
						text += pair.String() + "\n"
					} // else it says what is so anyway
				}
				if goRootVariable.MatchString(text) {
					return note(i, "sets GOROOT")
				}
			case *instructions.ArgCommand:
				for _, arg := range c.Args {
					text += "\n" + d.options.BuildArgs[arg.Key]
				}
			case *instructions.VolumeCommand, *instructions.ShellCommand:
			default:
				continue
			}
			if named := names(text, full, toolchain && !n.final); named != "" {
				return note(i, "names %s", named)
			}
		}
	}
	return nil
}

// names is the path in text that is full, something in it or a folder above it;
// "" for none. programs says that full's bin may be named; PATH may name it
// always.
func names(text, full string, programs bool) string {
	first, _, _ := strings.Cut(full[1:], "/")
	absolute := regexp.MustCompile(`(^|PATH=|[^\w./~-])(/+` + regexp.QuoteMeta(first) + `(?:/[^\s:;&|"'()<>,=]*)?)(?:$|[^\w.-])`)
	for from := 0; from < len(text); {
		at := absolute.FindStringSubmatchIndex(text[from:])
		if at == nil {
			return ""
		}
		before, named := text[from+at[2]:from+at[3]], text[from+at[4]:from+at[5]]
		from += at[5] // what follows may be what comes before the next
		// As much of it as is sure.
		sure, _, open := cutAny(named, "*?[{$`\\")
		cleaned := path.Clean(sure)
		switch {
		case within(cleaned, full+"/bin") && (programs || before == ":" || before == "PATH="):
		case within(cleaned, full), within(full, cleaned), open && strings.HasPrefix(full, cleaned):
			return named
		}
	}
	return ""
}

func cutAny(s, chars string) (before, after string, found bool) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:], true
	}
	return s, "", false
}

// userFile are the variables that make Go look for a user's settings in another
// place than root's, and settingsElsewhere what sets them or writes to that place.
var (
	userFile          = []string{"HOME", "XDG_CONFIG_HOME", "GOENV"}
	settingsElsewhere = regexp.MustCompile(`\b(?:` + strings.Join(userFile, "|") + `)\b|\bgo\s+env\s[^;&|\n]*-[wu]\b`)
)

// otherGo is what has go commands be those of another Go than the one that is
// installed.
var otherGo = regexp.MustCompile(`\bGOTOOLCHAIN[=\s]+["']?(?:auto|path|go1)|\bgolang\.org/dl/`)

// OtherGo is the first instruction, in the stages that the target needs, that
// brings a Go with a go.env file of its own; nil for none. A go.mod can too,
// where GOTOOLCHAIN lets it.
func (d *Derived) OtherGo() *Note {
	for _, n := range d.derivation.needed() {
		for _, i := range n.program {
			if match := otherGo.FindString(i.text + heredocText(i)); match != "" {
				return &Note{i.line, i.keyword() + " names " + match}
			}
		}
	}
	return nil
}

// goFlags is how a RUN gets flags for its go commands that are none of go.env's.
var goFlags = regexp.MustCompile(`\bGOFLAGS\b`)

// NamesGoFlags reports whether go commands, in the stages that the target
// needs, may have other flags than those in go.env files.
func (d *Derived) NamesGoFlags() bool {
	for _, n := range d.derivation.needed() {
		if _, ok := n.baseEnv()["GOFLAGS"]; ok || n.names(goFlags) {
			return true
		}
	}
	return false
}

// NamesGoEnv reports whether it matters to an instruction, in the stages that
// the target needs, if settings of Go are in root's own file of them or in
// Go's: for what it has, or for what its base image has.
func (d *Derived) NamesGoEnv() bool {
	for _, n := range d.derivation.needed() {
		env := n.baseEnv()
		set := func(name string) bool { _, ok := env[name]; return ok }
		if n.names(settingsElsewhere) || slices.ContainsFunc(userFile, set) {
			return true
		}
	}
	return d.OtherUser() > 0
}

// names says whether a RUN, or what sets variables for it, has something that
// expression matches.
func (n *node) names(expression *regexp.Regexp) bool {
	return slices.ContainsFunc(n.program, func(i *instruction) bool {
		switch i.command.(type) {
		case *instructions.RunCommand, *instructions.EnvCommand, *instructions.ArgCommand:
			return expression.MatchString(i.text + heredocText(i))
		}
		return false
	})
}

// OtherUser is the line of the first USER, in the stages that the target
// needs, that makes a RUN another user's than root, or of the FROM whose image
// does; 0 for none.
func (d *Derived) OtherUser() int {
	lines := map[int]int{} // stage → where its user at its end comes from; 0 for root
	for _, n := range d.derivation.needed() {
		line := 0
		switch {
		case n.parent != none:
			line = lines[n.parent]
		case n.image != nil && !IsRoot(n.image.User):
			line = n.from.line
		}
		for _, i := range n.program {
			switch c := i.command.(type) {
			case *instructions.UserCommand:
				if line = i.line; IsRoot(c.User) {
					line = 0
				}
			case *instructions.RunCommand:
				if line > 0 {
					return line
				}
			}
		}
		lines[n.index] = line
	}
	return 0
}

// IsRoot reports whether user, as USER and an image's configuration name one,
// is root.
func IsRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "root" || name == "0"
}
