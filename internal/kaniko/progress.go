package kaniko

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/command"

	"github.com/slipway-ci/slipway/internal/plan"
)

// progress follows kaniko's log: what the time goes to, and which RUN
// instruction is at work.
type progress struct {
	plan  *plan.Plan
	now   func() time.Time
	times plan.Times

	since   time.Time      // when what is going on began
	goesTo  *time.Duration // what its time is added to; nil for nothing that is told apart
	run     plan.Run       // the RUN that kaniko has come to
	running bool           // its command is at work
	known   []bool         // of the plan's RUNs, those that kaniko has come to
	next    int            // and the one after the last of them
}

// maxRuns is how many RUN instructions are told apart: the log may have any
// number.
const maxRuns = 1000

// logged is a line of kaniko's own log. What stands before it is what a RUN has
// left without a line end.
var logged = regexp.MustCompile(`(?:^|\x1b\[36m)INFO(?:\x1b\[0m)?\[[^\]]*\] (.*)`)

// see takes a line. kaniko says what it will do before it does it
// (pkg/executor/build.go, pkg/snapshot/snapshot.go).
func (p *progress) see(line []byte) {
	match := logged.FindSubmatch(line)
	if match == nil {
		return
	}
	said := spaced(string(match[1]))
	word, text, _ := strings.Cut(said, " ")
	_, isInstruction := command.Commands[strings.ToLower(word)]
	starts := func(texts ...string) bool {
		for _, text := range texts {
			if strings.HasPrefix(said, text) {
				return true
			}
		}
		return false
	}
	switch {
	case isInstruction && strings.EqualFold(word, command.Run):
		p.begin(nil) // there may be a snapshot to take before
		p.run = p.find(text)
	case starts("Running: ["):
		p.begin(nil)
		if p.running = true; p.run.Copies {
			p.goesTo = &p.times.Copy
		} else if len(p.times.Runs) < maxRuns {
			p.times.Runs = append(p.times.Runs, plan.RunTime{Line: p.run.Line})
			p.goesTo = &p.times.Runs[len(p.times.Runs)-1].Took
		}
	case isInstruction && (strings.EqualFold(word, command.Copy) || strings.EqualFold(word, command.Add)), starts("Saving file "):
		p.begin(&p.times.Copy)
	case isInstruction:
		p.begin(nil)
	case starts("Initializing snapshotter ", "Taking snapshot of "):
		p.begin(&p.times.Snapshot)
	case starts("Building stage ", "Unpacking rootfs ", "Found cached layer", "Storing source image ", "Deleting filesystem"):
		p.begin(&p.times.Base)
	}
}

// begin ends what was going on.
func (p *progress) begin(goesTo *time.Duration) {
	now := p.now()
	if p.goesTo != nil {
		*p.goesTo += now.Sub(p.since)
	}
	p.goesTo, p.since, p.running = goesTo, now, false
}

// find is the plan's RUN that kaniko has come to, or one without a line. text is
// what kaniko says after RUN: its flags, and then what the plan has. Mostly it
// is the next; kaniko may put a stage off until the one that is FROM it.
func (p *progress) find(text string) plan.Run {
	runs := p.plan.Runs
	if p.known == nil {
		p.known = make([]bool, len(runs))
	}
	for _, matches := range []func(a, b string) bool{
		func(a, b string) bool { return a == b },
		func(a, b string) bool { return strings.HasSuffix(a, " "+b) },
	} {
		for n := range runs {
			i := (p.next + n) % len(runs)
			if !p.known[i] && matches(text, spaced(runs[i].As)) {
				p.known[i], p.next = true, i+1
				return runs[i]
			}
		}
	}
	return plan.Run{Text: text}
}

// spaced is text with one blank for all white space between words, and none
// around them: kaniko pads its lines.
func spaced(text string) string { return strings.Join(strings.Fields(text), " ") }

// maxCommand is how many characters of a command say which one it is.
const maxCommand = 80

func (p *progress) called(run plan.Run) string {
	text := []rune(spaced(run.String()))
	if len(text) > maxCommand {
		text = append(text[:maxCommand-1], '…')
	}
	if run.Line == 0 {
		return p.plan.Dockerfile + ": " + string(text)
	}
	return fmt.Sprintf("%s:%d: %s", p.plan.Dockerfile, run.Line, string(text))
}

// exited is what kaniko's verdict says of a RUN's command.
var exited = regexp.MustCompile(`: failed to execute command: waiting for process to exit: (.+)`)

// failure says which RUN has failed with kaniko's verdict; "" where it is about
// something else.
func (p *progress) failure(verdict string) string {
	match := exited.FindStringSubmatch(verdict)
	if !p.running || match == nil {
		return ""
	}
	text := fmt.Sprintf("%s: failed after %.1f s, %s", p.called(p.run), p.now().Sub(p.since).Seconds(), match[1])
	if strings.HasSuffix(match[1], "killed") {
		text += ": the step's memory was most likely used up; raise its limit, or that of the node"
	}
	return text
}

// leave says what the time went to, for the step push. The step ends now.
func (p *progress) leave() error {
	if p.plan.Times == "" {
		return nil
	}
	p.begin(nil)
	p.times.Ended = p.now()
	content, err := json.Marshal(p.times)
	if err != nil {
		return err
	}
	return leave(p.plan.Times, content)
}
