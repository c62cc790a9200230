package kaniko

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"time"

	"github.com/slipway-ci/slipway/internal/plan"
)

// output is kaniko's log on its way to the step's: who reads it on the way, and
// what is left out of it.
type output struct {
	*lastWord
	lookups  *lookups
	progress *progress
	shown    *shown
}

// newOutput is that of a build step that began then.
func newOutput(p *plan.Plan, began time.Time, out io.Writer) *output {
	o := &output{lookups: &lookups{keys: map[string]bool{}}, progress: &progress{plan: p, now: time.Now, times: plan.Times{Began: began}}}
	o.shown = &shown{out: out, plan: p}
	o.lastWord = &lastWord{out: &lines{out: o.shown, see: func(line []byte) {
		o.lookups.see(line)
		o.progress.see(line)
	}}}
	return o
}

// Close lets through what is held back.
func (o *output) Close() error { return errors.Join(o.lastWord.Close(), o.shown.Close()) }

// lines passes a log on, and shows each line that is complete.
type lines struct {
	out  io.Writer
	see  func(line []byte)
	line []byte // the start of one
}

// maxLine is more than the line of a lookup has, and than nearly each RUN.
const maxLine = 64 << 10

func (l *lines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, after, complete := bytes.Cut(rest, []byte("\n"))
		l.line = append(l.line, part[:min(len(part), maxLine-len(l.line))]...)
		if complete {
			l.see(l.line)
			l.line = l.line[:0]
		}
		rest = after
	}
	return l.out.Write(p)
}

// lastWord holds back the line in which kaniko says that it failed, while
// everything else passes through at once. Where that line says no more than
// that a RUN instruction's command failed, it is dropped: the command's own
// words say why, and the step which instruction it was.
//
// kaniko colours the level at the start of its lines whoever reads them, and its
// format without colours is one for machines: the colour is left out.
type lastWord struct {
	out   io.Writer
	held  []byte // the start of a line that is, or may become, one to change or to hold
	mid   bool   // the line that is being written has been let through
	final string // the line that was held at the end
}

// verdict starts the line (cmd/executor/cmd/root.go, exit).
var verdict = []byte("error building image: ")

// commandFailed is the verdict that tells nothing new.
var commandFailed = regexp.MustCompile(`^error building image: .*: waiting for process to exit: exit status \d+\n?$`)

// Lines of kaniko's own start with a level, the dots being any character
// (logrus, TextFormatter.printColored).
const (
	colourOn  = "\x1b[3.m"
	colourOff = "\x1b[0m"
	level     = colourOn + "...." + colourOff + "["
)

// isLevel says whether text starts with a level, and mayBe whether it does as
// far as it goes.
func isLevel(text []byte) (is, mayBe bool) {
	for i := range min(len(text), len(level)) {
		if level[i] != '.' && text[i] != level[i] || text[i] == '\n' {
			return false, false
		}
	}
	return len(text) >= len(level), true
}

// withoutColour is a line, or the start of one, that begins with a level.
func withoutColour(line []byte) []byte {
	word, rest := line[len(colourOn):len(colourOn)+len("....")], line[len(level)-len("["):]
	return append(bytes.Clone(word), rest...)
}

func (w *lastWord) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		if err := w.write(rest[:end]); err != nil {
			return 0, err
		}
		rest = rest[end:]
	}
	return len(p), nil
}

// write takes a line, or a part of one.
func (w *lastWord) write(part []byte) error {
	if bytes.HasSuffix(w.held, []byte("\n")) {
		// It was not the last word after all.
		if err := w.flush(); err != nil {
			return err
		}
	}
	if !w.mid {
		w.held = append(w.held, part...)
		if n := min(len(w.held), len(verdict)); bytes.Equal(w.held[:n], verdict[:n]) {
			return nil
		}
		is, mayBe := isLevel(w.held)
		if mayBe && !is {
			return nil
		}
		if part = w.held; is {
			part = withoutColour(part)
		}
		w.held = nil
	}
	w.mid = !bytes.HasSuffix(part, []byte("\n"))
	_, err := w.out.Write(part)
	return err
}

func (w *lastWord) flush() error {
	held := w.held
	w.held = nil
	if len(held) == 0 {
		return nil
	}
	_, err := w.out.Write(held)
	return err
}

// Close lets through what is held back, unless it is not worth it.
func (w *lastWord) Close() error {
	w.final = string(w.held)
	if commandFailed.Match(w.held) {
		w.held = nil
	}
	return w.flush()
}
