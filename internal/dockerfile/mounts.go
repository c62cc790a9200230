package dockerfile

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/tonistiigi/go-csvvalue"
)

// mount is a --mount of a RUN. BuildKit's own type for it is of no use here: it
// keeps neither the place in the source nor what was left out.
type mount struct {
	flag    span
	options map[string]string // as written; a bare option is ""
	stage   int               // that it shows, once that is known
}

// mounts are those of a RUN; of any other instruction none.
func (i *instruction) mounts() []mount {
	if _, ok := i.command.(*instructions.RunCommand); !ok {
		return nil
	}
	var mounts []mount
	for n, flag := range i.flags {
		value, ok := strings.CutPrefix(flag, "--mount=")
		if !ok {
			continue
		}
		m := mount{flag: i.flagSpans[n], options: map[string]string{"type": "bind"}} // BuildKit's default
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			continue // BuildKit's front end says so
		}
		for _, field := range fields {
			name, value, _ := strings.Cut(field, "=")
			name = strings.ToLower(name)
			switch name {
			case "dst", "destination":
				name = "target"
			case "src":
				name = "source"
			case "type":
				value = strings.ToLower(value)
			}
			m.options[name] = value
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// ofContext reports whether a mount shows the build context, the one kind of
// bind mount that kaniko has.
func (m mount) ofContext() bool {
	return m.options["type"] == "bind" && (m.options["from"] == "" || m.options["from"] == "context")
}

// mountTarget is where a RUN mounts something.
type mountTarget struct {
	mount
	word span // of the path
}

// mountTargets are the places of the paths at which a RUN mounts the build
// context or a cache. One in quotes is left as it is.
func (i *instruction) mountTargets() []mountTarget {
	var targets []mountTarget
	for _, m := range i.mounts() {
		raw := i.raw(m.flag)
		if !m.ofContext() && m.options["type"] != "cache" || strings.ContainsAny(raw, `"'\`+"`") {
			continue
		}
		at := m.flag.start
		for field := range strings.SplitSeq(raw, ",") {
			name, value, ok := strings.Cut(strings.TrimPrefix(field, "--mount="), "=")
			if ok && value != "" && slices.Contains([]string{"target", "dst", "destination"}, strings.ToLower(name)) {
				end := at + len(field)
				targets = append(targets, mountTarget{m, span{end - len(value), end}})
			}
			at += len(field) + len(",")
		}
	}
	return targets
}

// withoutMountTargets is the instruction's text with blanks in place of the
// paths that are no part of what is run.
func (i *instruction) withoutMountTargets() string {
	text := i.text
	for _, target := range i.mountTargets() {
		at := target.word
		text = text[:at.start] + strings.Repeat(" ", at.end-at.start) + text[at.end:]
	}
	return text
}

// secrets are the ids that kaniko has to be given, of those there are. One that
// a RUN cannot do without and that is not there is an error.
func (d *derivation) secrets() ([]string, error) {
	var ids []string
	for _, n := range d.needed() {
		for _, i := range n.program {
			for _, m := range i.mounts() {
				id := m.secret()
				_, required := m.options["required"]
				switch {
				case id == "":
				case slices.Contains(d.options.Secrets, id):
					ids = append(ids, id)
				case required && m.options["required"] != "false":
					return nil, d.file.errorAt(i.line, fmt.Sprintf("RUN cannot do without the secret %s, which is not there", id),
						"bind the workspace secrets to a secret with the key "+id)
				}
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// secret is the id of the secret that is mounted, "" for another kind of mount.
func (m mount) secret() string {
	switch {
	case m.options["type"] != "secret":
		return ""
	case m.options["id"] != "":
		return m.options["id"]
	case m.options["target"] != "":
		return path.Base(m.options["target"])
	}
	return ""
}
