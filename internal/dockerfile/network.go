package dockerfile

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// fetchers are commands that bring what may be another thing tomorrow, each
// with the subcommands that do so; none is all of them.
var fetchers = map[string][]string{
	"apk": {"add", "update", "upgrade"},
	"apt": {"install", "update", "upgrade", "full-upgrade"}, "apt-get": {"install", "update", "upgrade", "dist-upgrade", "build-dep", "source"},
	"dnf": nil, "microdnf": nil, "yum": nil, "zypper": nil, "tdnf": nil, "pacman": nil,
	"curl": nil, "wget": nil, "aria2c": nil, "rsync": nil, "scp": nil,
	"git": {"clone", "fetch", "pull", "submodule", "ls-remote"},
	"pip": {"install", "download"}, "pip3": {"install", "download"}, "uv": {"pip", "sync", "add", "tool"}, "gem": {"install", "update"}, "bundle": {"install", "update"},
	"npm": {"install", "i", "ci", "add", "update"}, "pnpm": {"install", "i", "add", "update"}, "yarn": {"install", "add", "upgrade"}, "npx": nil,
	"cargo": {"install", "fetch", "update"},
}

// Network are the instructions, in the stages that the target needs, that
// fetch from a network what nothing in the source pins: what they bring is
// another thing when it is another thing there. What go commands fetch by
// go.sum or by a version is pinned. Scripts of the build context are not looked
// into.
func (d *Derived) Network() []Note {
	var notes []Note
	for _, n := range d.derivation.needed() {
		for _, i := range n.program {
			switch c := i.command.(type) {
			case *instructions.AddCommand:
				for _, source := range c.SourcePaths {
					if isRemote(source) {
						notes = append(notes, Note{i.line, "ADD " + source})
					}
				}
			case *instructions.RunCommand:
				for _, command := range commands(i.script(c)) {
					if what := fetches(command); what != "" {
						notes = append(notes, Note{i.line, i.keyword() + " " + what})
					}
				}
			}
		}
	}
	return slices.Compact(notes)
}

// ModuleDownloads are the RUNs, in the stages that the target needs, whose go
// commands are there to put modules into the module cache, for later ones.
// Scripts of the build context are not looked into.
func (d *Derived) ModuleDownloads() []Note {
	var notes []Note
	for _, n := range d.derivation.needed() {
		for _, i := range n.program {
			c, ok := i.command.(*instructions.RunCommand)
			if !ok {
				continue
			}
			for _, command := range commands(i.script(c)) {
				if what := downloads(command); what != "" {
					notes = append(notes, Note{i.line, i.keyword() + " " + what})
				}
			}
		}
	}
	return slices.Compact(notes)
}

// downloads is a go command as far as it says that it downloads modules, ""
// if it does not.
func downloads(command []string) string {
	if path.Base(command[0]) != "go" {
		return ""
	}
	words := command[1:]
	switch { // a folder to work in stands first
	case len(words) > 1 && words[0] == "-C":
		words = words[2:]
	case len(words) > 0 && strings.HasPrefix(words[0], "-C="):
		words = words[1:]
	}
	for _, what := range []string{"mod download", "mod tidy", "get", "install", "work sync"} {
		subcommand := strings.Fields(what)
		if len(words) >= len(subcommand) && slices.Equal(words[:len(subcommand)], subcommand) {
			return "go " + what
		}
	}
	return ""
}

// fetches is a command as far as it says that it fetches what is not pinned, ""
// if it does not.
func fetches(command []string) string {
	name := path.Base(command[0])
	if name == "go" && len(command) > 1 {
		return goFetches(command[1], command[2:])
	}
	subcommands, known := fetchers[name]
	switch {
	case !known:
		return ""
	case subcommands == nil:
		return name
	}
	for _, word := range command[1:] {
		if slices.Contains(subcommands, word) {
			return name + " " + word
		}
	}
	return ""
}

func goFetches(subcommand string, words []string) string {
	if subcommand != "install" && subcommand != "get" && subcommand != "run" {
		return ""
	}
	for _, word := range words {
		name, version, ok := strings.Cut(word, "@")
		if !ok || module.CheckImportPath(strings.TrimSuffix(name, "/...")) != nil {
			continue
		}
		if semver.Canonical(version)+semver.Build(version) != version {
			return "go " + subcommand + " " + word
		}
		if subcommand == "run" {
			return "" // what follows is the program's
		}
	}
	if subcommand == "get" && !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(word, "@") }) {
		return "go get"
	}
	return ""
}

// commands are those of a shell script, as words, without the assignments and
// the words that stand before a command.
func commands(script string) [][]string {
	var all [][]string
	var command []string
	end := func() {
		if len(command) > 0 {
			all = append(all, command)
		}
		command = nil
	}
	for _, word := range shellWords(script) {
		switch {
		case word == operator:
			end()
		case len(command) == 0 && (assigned.MatchString(word) || word == "env" || slices.Contains(commandPrefixes, word)):
		case len(command) > 1 && strings.HasPrefix(command[len(command)-1], "-") && strings.HasSuffix(command[len(command)-1], "c") && slices.Contains(shells, command[0]):
			all = append(all, commands(word)...)
		default:
			command = append(command, word)
		}
	}
	end()
	return all
}
