package dockerfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/slipway-ci/slipway/internal/operation"
)

// named returns a name that is a stage's alone, which it gets where it has none:
// kaniko takes targets by name, and numbers change as stages are added.
func (c *conversion) named(n *node) string {
	if name := c.names[n.index]; name != "" {
		return name
	}
	name := n.Name
	last := n.from.args[len(n.from.args)-1]
	start, end := n.from.at[last.start], n.from.at[last.end-1]+1
	others := func(other *node) bool { return other != n && strings.EqualFold(other.Name, n.Name) }
	switch {
	case name == "":
		name = c.unusedName(fmt.Sprintf("slipway-stage-%d", n.index))
		c.put(end, end, " AS "+name)
	case slices.ContainsFunc(c.nodes, others):
		name = c.unusedName(fmt.Sprintf("slipway-stage-%d", n.index))
		c.put(start, end, name)
	}
	c.names[n.index] = name
	return name
}

// clear adds a stage before n that makes ready for it what kaniko leaves of the
// root file system. kaniko builds nothing else between the two.
func (c *conversion) clear(n *node) {
	at := c.stageStart(n)
	name := c.unusedName(fmt.Sprintf("slipway-clear-%d", n.index))
	c.targets = append(c.targets, name)
	// With the name, for kaniko not to take it for another stage's in its layer cache.
	encoded, _ := json.Marshal(append(slices.Clone(c.options.Command), operation.ClearSign, operation.DigestSign+name)) // strings alone
	run := Run{Line: c.line(n.from), Text: "make ready for the stage", As: string(encoded), Copies: true, Keeps: true}
	c.runs = append(c.runs, placedRun{run, at})
	c.put(at, at, fmt.Sprintf("FROM scratch AS %s\nRUN %s\n", name, run.As))
}

// clearsItself reports whether a stage's file system can be removed by the last
// operation of the stage: nothing is needed of it but what that operation keeps. kaniko
// then has nothing to pack of an image that is no one's base.
func (c *conversion) clearsItself(n *node) bool {
	needsMore := slices.ContainsFunc(c.needed(), func(other *node) bool {
		return other.parent == n.index || slices.ContainsFunc(other.program, isForeignCopy)
	})
	return c.kept[n.index] != nil && !needsMore && n.index != c.target
}

func isNumber(text string) bool {
	_, err := strconv.Atoi(text)
	return err == nil
}

// isForeignCopy reports whether an instruction is a base image's ONBUILD COPY of
// a stage, which kaniko itself carries out.
func isForeignCopy(i *instruction) bool {
	command, ok := i.command.(*instructions.CopyCommand)
	return ok && i.isForeign && command.From != ""
}

// parentOf is the stage that n is FROM, or nil.
func (c *conversion) parentOf(n *node) *node {
	if n.parent == none {
		return nil
	}
	return c.nodes[n.parent]
}

// stageStart is the offset of the line of a stage's FROM.
func (c *conversion) stageStart(n *node) int {
	return bytes.LastIndexByte(c.file.source[:n.from.at[0]], '\n') + 1
}

// stageEnd is the offset where the next stage starts.
func (c *conversion) stageEnd(n *node) int {
	if n.index+1 == len(c.nodes) {
		return len(c.file.source)
	}
	return c.stageStart(c.nodes[n.index+1])
}
