package generate

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// edit makes a case smaller at one of its places.
type edit struct {
	places func(*Case) int
	apply  func(c *Case, n int)
	single bool // is not made at several places at once
	again  bool // may work once more where it worked
}

// edits are in the order of how much they take away.
var edits = []edit{
	{places: (*Case).stagesAfterTarget, apply: func(c *Case, _ int) { c.dropAfterTarget() }, single: true},
	{places: func(c *Case) int { return len(c.Stages) }, apply: (*Case).dropStage, single: true, again: true},
	{places: func(c *Case) int { return len(c.instructions()) }, apply: (*Case).dropInstruction, again: true},
	{places: func(c *Case) int { return len(c.Files) }, apply: func(c *Case, n int) { c.Files = slices.Delete(c.Files, n, n+1) }, again: true},
	{places: func(c *Case) int { return len(c.Ignore) }, apply: func(c *Case, n int) { c.Ignore = slices.Delete(c.Ignore, n, n+1) }},
	{places: func(c *Case) int { return len(c.BuildArgs) }, apply: func(c *Case, n int) { delete(c.BuildArgs, slices.Sorted(maps.Keys(c.BuildArgs))[n]) }},
	{places: func(c *Case) int { return len(c.Globals) }, apply: func(c *Case, n int) { c.Globals = slices.Delete(c.Globals, n, n+1) }},
	{places: func(*Case) int { return 1 }, apply: func(c *Case, _ int) { c.Escape, c.CRLF = "", false }},
	{places: func(c *Case) int { return len(c.looks()) }, apply: func(c *Case, n int) { c.looks()[n]() }},
	{places: func(c *Case) int { return len(c.flags()) }, apply: func(c *Case, n int) { c.flags()[n].drop() }},
	{places: func(c *Case) int { return len(c.words()) }, apply: func(c *Case, n int) { c.words()[n].drop() }, again: true},
	{places: func(c *Case) int { return len(c.lines()) }, apply: func(c *Case, n int) { c.lines()[n].drop() }},
	{places: func(c *Case) int { return len(c.entries()) }, apply: func(c *Case, n int) { c.entries()[n].drop() }},
	{places: func(c *Case) int { return len(c.simpler()) }, apply: func(c *Case, n int) { c.simpler()[n]() }, single: true, again: true},
}

// item is one of a list.
type item struct {
	list *[]string
	n    int
	// fewest must remain.
	fewest int
}

func (i item) drop() {
	if i.n < len(*i.list) && len(*i.list) > i.fewest {
		*i.list = slices.Delete(*i.list, i.n, i.n+1)
	}
}

// instructions are all but the FROMs.
func (c *Case) instructions() []*Instruction {
	var all []*Instruction
	for s := range c.Stages {
		for n := range c.Stages[s].Body {
			all = append(all, &c.Stages[s].Body[n])
		}
	}
	return all
}

func (c *Case) dropInstruction(n int) {
	for s := range c.Stages {
		body := c.Stages[s].Body
		if n < len(body) {
			c.Stages[s].Body = slices.Delete(body, n, n+1)
			return
		}
		n -= len(body)
	}
}

func (c *Case) stagesAfterTarget() int {
	if c.Target == "" {
		return 0
	}
	return 1
}

// dropAfterTarget makes the target the last stage.
func (c *Case) dropAfterTarget() {
	for n, s := range c.Stages {
		if strings.EqualFold(s.Name, c.Target) {
			c.Stages, c.Target = c.Stages[:n+1], ""
			return
		}
	}
}

// dropStage takes a stage out. What begins upon it begins upon its base, with its
// instructions; what copies from it goes; and numbers of later ones change.
func (c *Case) dropStage(n int) {
	if len(c.Stages) == 1 || n >= len(c.Stages) {
		return
	}
	out := c.Stages[n]
	if out.Name != "" && strings.EqualFold(out.Name, c.Target) {
		c.Target = ""
	}
	c.Stages = slices.Delete(c.Stages, n, n+1)
	for k := range c.Stages {
		s := &c.Stages[k]
		if out.Name != "" && strings.EqualFold(s.Base, out.Name) {
			s.Base, s.Platform = out.Base, out.Platform
			s.Body = append(slices.Clone(out.Body), s.Body...)
		}
		s.Body = slices.DeleteFunc(s.Body, func(i Instruction) bool {
			return slices.ContainsFunc(i.Flags, func(f string) bool {
				return from(f) != "" && (strings.EqualFold(from(f), out.Name) || from(f) == strconv.Itoa(n))
			})
		})
		for b := range s.Body {
			for f, flag := range s.Body[b].Flags {
				if number, err := strconv.Atoi(from(flag)); err == nil && number > n {
					s.Body[b].Flags[f] = strings.Replace(flag, "from="+from(flag), "from="+strconv.Itoa(number-1), 1)
				}
			}
		}
	}
}

// from is the stage that a flag of COPY or RUN names, or empty.
func from(flag string) string {
	_, rest, ok := strings.Cut(flag, "from=")
	if !ok || !strings.HasPrefix(flag, "--from=") && !strings.HasPrefix(flag, "--mount=") {
		return ""
	}
	name, _, _ := strings.Cut(rest, ",")
	return name
}

func (c *Case) flags() []item {
	var all []item
	for _, i := range c.instructions() {
		for n := range i.Flags {
			all = append(all, item{&i.Flags, n, 0})
		}
	}
	return all
}

// words can be left out where others remain that make an instruction.
func (c *Case) words() []item {
	var all []item
	list := c.instructions()
	for n := range c.Globals {
		list = append(list, &c.Globals[n])
	}
	for _, i := range list {
		fewest, words := 1, len(i.Words)
		if i.Name == "COPY" || i.Name == "ADD" {
			fewest = 2
			words-- // the last one is where to
		}
		for n := range words {
			if len(i.Words) > fewest {
				all = append(all, item{&i.Words, n, fewest})
			}
		}
	}
	return all
}

// lines are those of heredocs.
func (c *Case) lines() []item {
	var all []item
	for _, i := range c.instructions() {
		for d := range i.Docs {
			for n := range i.Docs[d].Lines {
				all = append(all, item{&i.Docs[d].Lines, n, 0})
			}
		}
	}
	return all
}

type archived struct {
	archive *Archive
	n       int
}

func (a archived) drop() {
	if a.n < len(a.archive.Entries) {
		a.archive.Entries = slices.Delete(a.archive.Entries, a.n, a.n+1)
	}
}

func (c *Case) entries() []archived {
	var all []archived
	for _, f := range c.Files {
		if f.Archive != nil {
			for n := range f.Archive.Entries {
				all = append(all, archived{f.Archive, n})
			}
		}
	}
	return all
}

// tidy takes away documents that no word refers to.
func (c *Case) tidy() {
	for _, i := range c.instructions() {
		i.Docs = slices.DeleteFunc(i.Docs, func(h Heredoc) bool {
			return !slices.ContainsFunc(i.Words, func(w string) bool { return strings.Contains(w, h.marker()) })
		})
	}
}
