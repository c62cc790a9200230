package dockerfile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// goSettings are the variables that keep go commands from what Slipway sets in
// go.env files: Go reads the environment first, then $HOME/.config/go/env (or
// GOENV), then $GOROOT/go.env.
var goSettings = map[string]string{
	"GOCACHE":     "go commands use that directory and not the kept build cache",
	"GOCACHEPROG": "go commands use that program and not the kept build cache",
	"GOMODCACHE":  "go commands use that directory and not the kept module cache",
	"GOPATH":      "go commands keep modules there unless GOMODCACHE is set as well",
	"GOPROXY":     "go commands use that proxy and not the one of the build's params",
	"GOFLAGS":     "go commands take these flags in place of those in go.env files",
	"GOENV":       "go commands read that file of settings and not the user's go/env",
	"HOME":        "go commands look there for the user's go/env file",
}

// notes are what the user may not expect of the stages that matter.
func (d *derivation) notes() []Note {
	noted := map[Note]bool{}
	for _, n := range d.noted {
		noted[n] = true
	}
	note := func(line int, format string, args ...any) {
		noted[Note{Line: line, Text: fmt.Sprintf(format, args...)}] = true
	}
	escapes := func(name string, line int, format string, args ...any) {
		note(line, format, args...)
		if escaped := (Note{line, fmt.Sprintf(format, args...)}); strings.Contains(goSettings[name], "not the kept") && !slices.Contains(d.escapes, escaped) {
			d.escapes = append(d.escapes, escaped)
		}
	}
	pending := map[int]map[string]int{} // stage → variable set by ENV → line, until a RUN sees it
	for _, n := range d.needed() {
		set := map[string]int{}
		if n.parent != none {
			maps.Copy(set, pending[n.parent])
		}
		for name := range n.baseEnv() {
			// golang's images set GOPATH, to where its modules are anyway.
			if goSettings[name] != "" && name != "GOPATH" {
				set[name] = n.from.line
			}
		}
		for _, i := range n.program {
			switch c := i.command.(type) {
			case *instructions.EnvCommand:
				for _, pair := range c.Env {
					if goSettings[pair.Key] != "" {
						set[pair.Key] = i.line
					}
				}
			case *instructions.RunCommand:
				for name, line := range set {
					of := ""
					if line == n.from.line {
						of = " of the base image"
					}
					escapes(name, line, "ENV %s%s: %s", name, of, goSettings[name])
				}
				for _, name := range assignments(i.script(c)) {
					if name != "HOME" && goSettings[name] != "" {
						escapes(name, i.line, "RUN sets %s: %s", name, goSettings[name])
					}
				}
				for _, m := range i.mounts() {
					if id := m.secret(); id != "" && !slices.Contains(d.options.Secrets, id) {
						note(i.line, "RUN goes without the secret %s: the workspace secrets has none", id)
					}
				}
			}
			writtenSecrets(i, note)
			if kind := kindOf(i); i.isForeign && (kind == "copy" || kind == "run" && (len(i.heredocs) > 0 || len(i.mounts()) > 0)) {
				note(n.from.line, "%s: kaniko carries it out in its own way, which may not be Docker's (docs/kaniko.md)", i.keyword())
			}
			for _, what := range unsupported(i) {
				note(i.line, "%s has no effect here", what)
			}
		}
		pending[n.index] = set
		for _, p := range n.places {
			if mount := d.mount(p.full); n.final && p.role == workdir && mount != "" {
				note(p.in.line, "WORKDIR %s lies in %s, a mount of the build pod: the directory, and what RUN writes there, is not in the image", p.full, mount)
			}
		}
	}
	d.noteArgs(note)
	if frontend, _, place, ok := parser.DetectSyntax(d.file.source); ok && !strings.HasPrefix(strings.TrimPrefix(frontend, "docker.io/"), "docker/dockerfile") && len(place) > 0 {
		note(place[0].Start.Line, "the frontend %s is not used: this file is read as a Dockerfile", frontend)
	}
	slices.SortFunc(d.escapes, inOrder)
	return slices.SortedFunc(maps.Keys(noted), inOrder)
}

// inOrder is that of the file.
func inOrder(a, b Note) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text)) }

// noteArgs finds build args that reach nothing, and go settings that are
// declared where no RUN sees them.
func (d *derivation) noteArgs(note func(line int, format string, args ...any)) {
	reached := d.args()
	for _, i := range d.file.globals {
		for _, arg := range i.command.(*instructions.ArgCommand).Args {
			if goSettings[arg.Key] != "" && !reached[arg.Key] {
				note(i.line, "ARG %s stands before the first FROM, where no RUN sees it: repeat it after FROM", arg.Key)
			}
		}
	}
	for name := range d.options.BuildArgs {
		if !d.takes(name) {
			note(0, "build arg %s: no ARG declares it, so it has no effect", name)
		}
	}
}

// script is what a RUN has its shell do, or the words it runs.
func (i *instruction) script(c *instructions.RunCommand) string {
	text := strings.Join(c.CmdLine, " ")
	if c.PrependShell {
		text += heredocText(i)
	}
	return text
}

func heredocText(i *instruction) string {
	var text strings.Builder
	for _, heredoc := range i.heredocs {
		text.WriteString("\n" + heredoc.Content)
	}
	return text.String()
}

// unsupported is what an instruction asks for and a build here passes over.
func unsupported(i *instruction) []string {
	c, ok := i.command.(*instructions.RunCommand)
	if !ok {
		return nil
	}
	var found []string
	for _, flag := range i.flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if slices.Contains(c.FlagsUsed, name) && name != "mount" && value != "default" && value != "sandbox" {
			found = append(found, "RUN "+flag)
		}
	}
	for _, m := range i.mounts() {
		if m.options["type"] == "ssh" {
			found = append(found, "RUN --mount=type=ssh")
		}
	}
	return found
}
