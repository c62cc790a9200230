package generate

import "slices"

// docNames are the words that end documents, as they are seen.
var docNames = []string{"EOF", "EOT", "EOS", "SCRIPT", "file.conf"}

// inline makes one to three documents the sources of a COPY or an ADD, perhaps
// beside a file.
func (g *generator) inline(s *stage, i *Instruction, x *transfer) {
	names := slices.Clone(docNames)
	g.r.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
	number := 1
	if g.chance(0.2) {
		number = 2 + g.r.IntN(2)
	}
	for _, name := range names[:number] {
		d := Heredoc{Name: name, Chomp: g.chance(0.2)}
		if g.chance(0.4) {
			d.Quote = pick(g, "'", `"`)
		}
		for range 1 + g.r.IntN(4) {
			d.Lines = append(d.Lines, g.docLine(s, d.Chomp))
		}
		i.Docs = append(i.Docs, d)
		x.docs = append(x.docs, name)
	}
	if g.chance(0.1) {
		if found := x.from.paths(func(_ string, n *node) bool { return n.kind == Regular }); len(found) > 0 {
			if p := pick(g, found...); !hasPattern(p) && len(split(p)) > 0 {
				x.sources = append(x.sources, p)
			}
		}
	}
}

// docLine is a line of a file: what a document resolves unless its name is quoted.
func (g *generator) docLine(s *stage, chomp bool) string {
	line := pick(g,
		"plain", "", "key = \"value\"", "it's", "# a comment", `back\\slash`, `\${HOME}`, `a\b`, "RUN false", "$NOT_SET.",
		"${NOT_SET:-fallback}", `'${NOT_SET:-x}'`, "  indented", "price: 5$", "{\"a\": [1]}", "<tag>", "trailing  ", "`command`", `ends with \`,
	)
	if len(s.vars) > 0 && g.chance(0.45) {
		n := pick(g, s.vars...).name
		line = pick(g, "V=${"+n+"}", "v: $"+n, `"$`+n+`"`, "'${"+n+"}'", `\$`+n, "${"+n+":+set}")
	}
	if chomp && g.chance(0.7) || g.chance(0.05) {
		line = pick(g, "\t", "\t\t") + line
	}
	return line
}

// script is a RUN whose commands are in a document.
func (g *generator) script(s *stage) bool {
	d := Heredoc{Name: pick(g, docNames[:4]...), Chomp: g.chance(0.25)}
	if g.chance(0.45) {
		d.Quote = pick(g, "'", `"`)
	}
	commands := g.commands(s, 1+g.r.IntN(3))
	if len(commands) == 0 {
		return false
	}
	i := Instruction{Name: "RUN", Docs: []Heredoc{d}}
	doc := &i.Docs[0]
	switch p := g.r.Float64(); {
	case p < 0.6: // the shell runs the document
		i.Words = []string{d.marker()}
		doc.Lines = commands
		switch {
		case g.chance(0.25):
			doc.Lines = slices.Insert(doc.Lines, 0, pick(g, "#!/bin/sh", "#!/bin/sh -e", "#!/bin/busybox sh", "#!/usr/bin/env sh"))
			if d.Chomp { // what follows a tab is no first line of a script
				i.Docs[0].Chomp = false
				i.Words[0] = i.Docs[0].marker()
			}
		case g.chance(0.3):
			doc.Lines = slices.Insert(doc.Lines, 0, pick(g, "set -e", "set -ex", "# a comment", ""))
		case g.chance(0.2): // without set -e it goes on after a failure
			doc.Lines = slices.Insert(doc.Lines, 0, "false")
			if g.failing(s) {
				doc.Lines = doc.Lines[1:]
			}
		}
		if doc.Chomp {
			for n := range doc.Lines {
				doc.Lines[n] = "\t" + doc.Lines[n]
			}
		}
	case p < 0.8: // a command reads it
		out := g.out(s, &commands)
		if out == "" {
			return false
		}
		for range 1 + g.r.IntN(3) {
			doc.Lines = append(doc.Lines, pick(g, "plain", "$PATH", "${NOT_SET:-x}", "it's", `\$HOME`, "\tindented"))
		}
		commands = append(commands, "cat "+d.marker()+" > "+out)
		i.Words, i.Glue = commands, "&&"
	default: // another shell reads it
		i.Words = []string{"sh " + d.marker()}
		if d.Chomp {
			for n := range commands {
				commands[n] = "\t" + commands[n]
			}
		}
		doc.Lines = commands
	}
	g.write(i)
	return true
}

// failing tells whether a command that fails would end the script.
func (g *generator) failing(s *stage) bool {
	return slices.ContainsFunc(g.body(), func(i Instruction) bool { return i.Name == "SHELL" }) || s.number > 0
}
