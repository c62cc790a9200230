package main

import (
	"fmt"
	"slices"
)

// goal is what a figure of Slipway's is held to.
type goal struct {
	about string
	apps  []string
	least bool // the figure must be at least the limit, not at most
	limit float64
	unit  string
	// of works the figure out; false if runs are missing.
	of func(r *results, app string) (float64, bool)
	// unfailing is a case of Slipway's of which no run may fail; "" for none.
	unfailing string
}

// against takes two medians of one app: those of a contender in a case.
func against(value func(record) *float64, contender, kind, other, otherKind string, combine func(a, b float64) float64) func(*results, string) (float64, bool) {
	return func(r *results, app string) (float64, bool) {
		a, b := r.of(contender, app, kind, value), r.of(other, app, otherKind, value)
		if len(a) == 0 || len(b) == 0 {
			return 0, false
		}
		return combine(median(a), median(b)), true
	}
}

func ratio(a, b float64) float64      { return a / b }
func difference(a, b float64) float64 { return a - b }

var goals = []goal{
	{"one line, build: skaffold-final ÷ slipway", nil, true, 6, "", against(build, "skaffold-final", "one-line", "slipway", "one-line", ratio), ""},
	{"one line, build: slipway − floor", nil, false, 4, " s", against(build, "slipway", "one-line", "floor", "one-line", difference), ""},
	{"one line, end to end: skaffold-final ÷ slipway", nil, true, 3, "", against(total, "skaffold-final", "one-line", "slipway", "one-line", ratio), ""},
	{"one line, end to end: skaffold-final ÷ slipway-one-pod", nil, true, 3, "", against(total, "skaffold-final", "one-line", "slipway-one-pod", "one-line", ratio), ""},
	{"cold, build: slipway ÷ skaffold-final", nil, false, 1, "", against(build, "slipway", "cold", "skaffold-final", "cold", ratio), ""},
	{"skaffold-baseline cold ÷ slipway one line, build", nil, true, 20, "", against(build, "skaffold-baseline", "cold", "slipway", "one-line", ratio), ""},
	{"one line, end to end: slipway ÷ ko", nil, false, 1.2, "", against(total, "slipway", "one-line", "ko", "one-line", ratio), ""},
	{"nothing changed, end to end: skaffold-final ÷ slipway", nil, true, 3, "", against(total, "skaffold-final", "unchanged", "slipway", "unchanged", ratio), ""},
	{"nothing changed, end to end: skaffold-final ÷ slipway-one-pod", nil, true, 3, "", against(total, "skaffold-final", "unchanged", "slipway-one-pod", "unchanged", ratio), ""},
	{"nothing changed, end to end: skaffold-final-fresh ÷ slipway", nil, true, 3, "", against(total, "skaffold-final-fresh", "unchanged", "slipway", "unchanged", ratio), ""},
	{"nothing changed, end to end: skaffold-final-fresh ÷ slipway-one-pod", nil, true, 3, "", against(total, "skaffold-final-fresh", "unchanged", "slipway-one-pod", "unchanged", ratio), ""},
	{"one dependency, build: slipway − its one line", nil, false, 2, " s", against(build, "slipway", "one-dependency", "slipway", "one-line", difference), ""},
	{"8 at once: throughput ÷ one after another", []string{"small"}, true, 0.9, "", against(total, "slipway", "in-turn-8", "slipway", "at-once-8", ratio), "at-once-8"},
	{"service k of 20 on one cache: packages compiled beside its own", []string{"small"}, false, 0, "", func(r *results, app string) (float64, bool) {
		all := r.of("slipway", app, "services-20", compiled)
		if len(all) == 0 {
			return 0, false
		}
		return slices.Max(all) - 1, true
	}, "services-20"},
}

// verdict is the figure with whether it meets the goal.
func (g goal) verdict(r *results, app string) string {
	v, ok := g.of(r, app)
	if !ok {
		return "not run"
	}
	word := "missed"
	if g.least && v >= g.limit || !g.least && v <= g.limit {
		word = "met"
	}
	if n := r.failed("slipway", app, g.unfailing); n > 0 {
		return fmt.Sprintf("%.2f%s, missed: %d runs failed", v, g.unit, n)
	}
	return fmt.Sprintf("%.2f%s, %s", v, g.unit, word)
}

func (g goal) String() string {
	sign := "≤"
	if g.least {
		sign = "≥"
	}
	return fmt.Sprintf("%s %s %g%s", g.about, sign, g.limit, g.unit)
}
