package generate

import (
	"regexp"
	"strings"
)

// looks are about how instructions are written. All of them can change at once.
func (c *Case) looks() []func() {
	var all []func()
	for _, i := range c.instructions() {
		if i.Lower || i.Breaks || i.Comment != "" || i.Inside != "" {
			all = append(all, func() { i.Lower, i.Breaks, i.Comment, i.Inside = false, false, "", "" })
		}
	}
	for n := range c.Stages {
		s := &c.Stages[n]
		if s.Lower || s.Platform != "" {
			all = append(all, func() { s.Lower, s.Platform = false, "" })
		}
	}
	return all
}

// simpler are ways to write one thing with less, or with what is more common.
func (c *Case) simpler() []func() {
	var all []func()
	for n := range c.Stages {
		s := &c.Stages[n]
		if s.Base != "alpine:users" && s.Base != "busybox" && s.Base != "scratch" {
			all = append(all, func() { s.Base = "alpine:users" })
		}
		if s.Base == "alpine:users" {
			all = append(all, func() { s.Base = "busybox" })
		}
	}
	for _, i := range c.instructions() {
		if i.OnBuild {
			all = append(all, func() { i.OnBuild = false })
		}
		for n, flag := range i.Flags {
			for _, with := range simplerFlag(flag) {
				all = append(all, func() { i.Flags[n] = with })
			}
		}
		for n, word := range i.Words {
			for _, with := range simplerWord(i.Name, word) {
				all = append(all, func() { i.Words[n] = with })
			}
		}
		for n := range i.Docs {
			d := &i.Docs[n]
			if d.Chomp || d.Quote != "" {
				old := d.marker()
				all = append(all, func() {
					d.Chomp, d.Quote = false, ""
					for w := range i.Words {
						i.Words[w] = strings.Replace(i.Words[w], old, d.marker(), 1)
					}
				})
			}
		}
	}
	for n := range c.Files {
		all = append(all, c.Files[n].simpler()...)
	}
	return all
}

func (f *File) simpler() []func() {
	var all []func()
	if f.Kind == Regular && f.Mode != 0o644 {
		all = append(all, func() { f.Mode = 0o644 })
	}
	if f.Kind == Folder && f.Mode != 0o755 {
		all = append(all, func() { f.Mode = 0o755 })
	}
	if f.Content != "" && f.Content != "x\n" {
		all = append(all, func() { f.Content = "x\n" })
	}
	if f.Archive != nil {
		if f.Archive.Compression != "" {
			all = append(all, func() { f.Archive.Compression = "" })
		}
		for n := range f.Archive.Entries {
			e := &f.Archive.Entries[n]
			if e.UID != 0 || e.GID != 0 {
				all = append(all, func() { e.UID, e.GID = 0, 0 })
			}
			if e.Kind == Regular && e.Mode != 0o644 {
				all = append(all, func() { e.Mode = 0o644 })
			}
		}
	}
	return all
}

// simplerFlag are flags that say less; those of a mount lose a field.
func simplerFlag(flag string) []string {
	var less []string
	name, value, _ := strings.Cut(flag, "=")
	switch name {
	case "--mount":
		fields := strings.Split(value, ",")
		for n := range fields {
			rest := append(append([]string{}, fields[:n]...), fields[n+1:]...)
			if len(rest) > 0 {
				less = append(less, name+"="+strings.Join(rest, ","))
			}
		}
	case "--chown":
		less = append(less, "--chown=1000", "--chown=1000:1000")
	case "--chmod":
		less = append(less, "--chmod=755")
	}
	return less
}

var (
	expansion = regexp.MustCompile(`\$\{\w+:?[-+]([^${}]*)\}`)
	reference = regexp.MustCompile(`\$\{?\w+\}?`)
	compound  = regexp.MustCompile(` (?:&&|;|\|\|?) `)
)

// simplerWord are words without a quote, a variable, or a command in them.
func simplerWord(instruction, word string) []string {
	var less []string
	add := func(w string) {
		if w != word && w != "" {
			less = append(less, w)
		}
	}
	if strings.Contains(word, "<<") {
		return nil
	}
	if instruction == "RUN" {
		add("true")
		if at := compound.FindStringIndex(word); at != nil {
			add(word[:at[0]])
			add(word[at[1]:])
		}
		return less
	}
	if name, value, ok := strings.Cut(word, "="); ok && value != "x" && (instruction == "ENV" || instruction == "LABEL" || instruction == "ARG") {
		add(name + "=x")
	}
	add(strings.NewReplacer(`"`, "", "'", "", `\`, "").Replace(word))
	add(expansion.ReplaceAllString(word, "$1"))
	add(reference.ReplaceAllString(word, "x"))
	return less
}
