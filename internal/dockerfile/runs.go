package dockerfile

import "github.com/moby/buildkit/frontend/dockerfile/instructions"

// Run is a RUN instruction that a build carries out.
type Run struct {
	Line int    // in the source; the FROM's for one that a base image brings along
	Text string // what follows RUN and its flags, on one line
}

// Runs are those of the stages that the target needs, in the file's order.
// Deriving changes their flags only.
func (d *Derived) Runs() []Run {
	var runs []Run
	for _, n := range d.derivation.needed() {
		for _, i := range n.program {
			if _, ok := i.command.(*instructions.RunCommand); ok {
				runs = append(runs, Run{Line: i.line, Text: i.raw(i.rest)})
			}
		}
	}
	return runs
}
