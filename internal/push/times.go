package push

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/internal/plan"
)

// Times is what a build's seconds went to, in seconds. Those within the build
// step go by kaniko's log, in which RUN instructions can write.
type Times struct {
	Prepare  float64 `json:"prepare"`  // the step
	Base     float64 `json:"base"`     // unpacking base images and cached layers, and removing them between stages
	Copy     float64 `json:"copy"`     // COPY and ADD, and keeping what a later stage copies
	Run      float64 `json:"run"`      // RUN
	Snapshot float64 `json:"snapshot"` // looking for what has changed, packing it, and writing the image
	Image    float64 `json:"image"`    // taking the times out of the image, and handing it over
	Other    float64 `json:"other"`    // of the build step
	Push     float64 `json:"push"`     // the step
	Waits    float64 `json:"waits"`    // between steps, where Tekton's entrypoint looks once a second whether one has ended
}

// spent is what the seconds until now went to, as the build step left it. push
// is when this step began.
type spent struct {
	plan.Times
	prepare, push, other, waits time.Duration
}

// maxRunsTold is how many RUN instructions are told apart for a person.
const maxRunsTold = 4

// readTimes reads what the build step left. A RUN may have written it: it is
// believed as far as it can be true. Where nothing is built, the step has nothing
// to leave.
func readTimes(p *plan.Plan, push, now time.Time) (*spent, error) {
	// A file's time is that of the kernel's last tick.
	s := spent{prepare: max(p.Written.Sub(p.Started), 0), push: now.Sub(push)}
	if p.Unchanged != nil {
		s.waits = max(push.Sub(p.Written), 0)
		return &s, nil
	}
	content, err := readLeft(p.Times)
	if err != nil {
		return nil, errors.New("the build step left nothing about it")
	}
	if err := json.Unmarshal(content, &s.Times); err != nil {
		return nil, errors.New("what the build step left cannot be read")
	}
	s.other = s.Ended.Sub(s.Began)
	parts := []time.Duration{s.Base, s.Copy, s.Snapshot, s.Image}
	for _, run := range s.Runs {
		parts = append(parts, run.Took)
	}
	for _, part := range parts {
		if part < 0 || part > s.other {
			return nil, errors.New("what the build step left cannot be true")
		}
		s.other -= part
	}
	if s.Began.Before(p.Written) || s.Ended.After(push) {
		return nil, errors.New("the steps' times are not in order")
	}
	s.waits = s.Began.Sub(p.Written) + push.Sub(s.Ended)
	return &s, nil
}

func (s *spent) seconds() *Times {
	var run time.Duration
	for _, r := range s.Runs {
		run += r.Took
	}
	return &Times{
		Prepare: rounded(s.prepare), Base: rounded(s.Base), Copy: rounded(s.Copy), Run: rounded(run), Snapshot: rounded(s.Snapshot),
		Image: rounded(s.Image), Other: rounded(s.other), Push: rounded(s.push), Waits: rounded(s.waits),
	}
}

// rounded is in seconds, to tenths.
func rounded(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }

// String names what took a tenth of a second or more, in the order in which it
// came; of the RUN instructions those that took longest, the rest together.
func (s *spent) String() string {
	var parts []string
	add := func(what string, took time.Duration) {
		if seconds := rounded(took); seconds > 0 {
			parts = append(parts, fmt.Sprintf("%s %.1f s", what, seconds))
		}
	}
	add("prepare", s.prepare)
	add("base images", s.Base)
	add("COPY", s.Copy)
	longest := make([]int, len(s.Runs))
	for i := range longest {
		longest[i] = i
	}
	slices.SortStableFunc(longest, func(a, b int) int { return cmp.Compare(s.Runs[b].Took, s.Runs[a].Took) })
	told, more := longest[:min(maxRunsTold, len(longest))], time.Duration(0)
	for i, run := range s.Runs {
		switch {
		case !slices.Contains(told, i):
			more += run.Took
		case run.Line > 0:
			add(fmt.Sprintf("RUN (line %d)", run.Line), run.Took)
		default:
			add("RUN", run.Took)
		}
	}
	add("other RUNs", more)
	add("snapshots", s.Snapshot)
	add("image", s.Image)
	add("the rest of the build step", s.other)
	add("push", s.push)
	add("between steps", s.waits)
	return strings.Join(parts, ", ")
}
