package dockerfile

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

var (
	// moduleCache is what the path of a module cache has in it, whatever the
	// GOPATH, and modulesVariable how a script asks for it.
	moduleCache     = regexp.MustCompile(`/pkg/mod(?:/|$)`)
	modulesVariable = regexp.MustCompile(`\bGOMODCACHE\b|\bGOPATH\b.*/pkg/mod`)
	// emptied matches a RUN that removes what is in a module cache. One that
	// removes the cache removes our link alone.
	emptied = regexp.MustCompile(`\brm\s[^;&|\n]*/pkg/mod/`)
)

// modules finds the first instruction, in the stages that the target needs, to
// which it matters that the module cache is a link to the kept one: that copies
// it, writes into it other than by go commands, or leaves it to the image, whose
// go commands will look for it. nil is none.
func (d *derivation) modules() *Note {
	kept := d.options.ModCache
	if kept == "" {
		return nil
	}
	note := func(i *instruction, format string, args ...any) *Note {
		return &Note{Line: i.line, Text: i.keyword() + " " + fmt.Sprintf(format, args...)}
	}
	for _, n := range d.needed() {
		for _, p := range n.places {
			switch {
			case p.full == "":
				if modulesVariable.MatchString(p.in.raw(p.word)) {
					return note(p.in, "names the module cache")
				}
			case p.role == copied:
				if moduleCache.MatchString(p.full) || covers(p.full, kept) && !d.copiesNoModules(n, p) {
					return note(p.in, "copies from the module cache")
				}
			case p.role == bound && p.mount.options["type"] == "cache":
				if p.in.isForeign && p.hides(kept) {
					return note(p.in, "mounts a cache at %s", p.full)
				}
			case p.role == bound && within(p.full, kept):
				return note(p.in, "mounts files at %s", p.full)
			case p.role == destination && (within(p.full, kept) || d.brings(n, p, kept) != ""):
				return note(p.in, "copies to %s", p.full)
			case p.role == workdir && within(p.full, kept):
				return note(p.in, "makes %s", p.full)
			}
		}
		for _, i := range n.program {
			switch c := i.command.(type) {
			case *instructions.RunCommand:
				script := i.script(c)
				if emptied.MatchString(script) {
					return note(i, "removes files of the module cache")
				}
				if n.final && slices.ContainsFunc(commands(script), func(command []string) bool { return downloads(command) == "go mod download" }) {
					return note(i, "go mod download is in the final stage")
				}
			case *instructions.CmdCommand:
				if n.final && runsGo(c.CmdLine) {
					return note(i, "runs go, in the image")
				}
			case *instructions.EntrypointCommand:
				if n.final && runsGo(c.CmdLine) {
					return note(i, "runs go, in the image")
				}
			}
		}
	}
	return nil
}

// copiesNoModules reports whether a folder above the module cache has none, as
// nothing has run where it is from, and is copied to its own path, where kaniko
// passes over our link: COPY --from=xx / /.
func (d *derivation) copiesNoModules(n *node, folder place) bool {
	for of := folder.of; of != none; of = d.nodes[of].parent {
		if slices.ContainsFunc(d.nodes[of].program, func(i *instruction) bool { _, runs := i.command.(*instructions.RunCommand); return runs }) {
			return false
		}
	}
	return slices.ContainsFunc(n.places, func(p place) bool { return p.in == folder.in && p.role == destination && p.full == folder.full })
}

// runsGo reports whether an image's command is one of go's.
func runsGo(line []string) bool {
	return slices.ContainsFunc(commands(strings.Join(line, " ")), func(command []string) bool { return path.Base(command[0]) == "go" })
}

// hides reports whether what is mounted at the place stands in for the kept
// module cache, or for a folder of it.
func (p place) hides(kept string) bool {
	return within(p.full, kept) || len(p.full) > 1 && within(kept, p.full)
}

// dropCacheMounts removes the cache mounts that would stand in for the kept
// module cache, or for a folder of it. kaniko's are empty in each build, and it
// mounts one by moving what is there: our link with an empty folder in its
// place, or what is kept itself (v1.27.5, pkg/commands/run.go, swapDir).
//
// A mount above the module cache keeps other files too, out of the image: in
// the target and what it is FROM it stays, and hides the module cache.
func (d *derivation) dropCacheMounts() {
	kept := d.options.ModCache
	for _, n := range d.needed() {
		n.places = slices.DeleteFunc(n.places, func(p place) bool {
			if p.role != bound || p.mount.options["type"] != "cache" || kept == "" || !p.hides(kept) {
				return false
			}
			if n.final && !within(p.full, kept) {
				d.noted = append(d.noted, Note{p.in.line, fmt.Sprintf("RUN mounts a cache at %s: it hides the kept module cache, and starts empty in each build", p.full)})
				return false
			}
			d.remove(p.in, p.mount.flag, "the kept module cache is there")
			return true
		})
	}
}
