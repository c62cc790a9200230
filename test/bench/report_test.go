package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/test/cluster"
)

func seconds64(v float64) *float64 { return &v }

// measured is a run of everything that goals are about.
func measured(values map[string][2]float64) *results {
	r := &results{}
	for name, v := range values {
		parts := strings.Fields(name)
		r.Records = append(r.Records, record{
			job: job{parts[0], "small", parts[1], 1}, SecondsBuild: seconds64(v[0]), SecondsTotal: seconds64(v[1]), OK: true,
		})
	}
	return r
}

func TestGoals(t *testing.T) {
	t.Parallel()
	r := measured(map[string][2]float64{
		"skaffold-final one-line": {24, 45}, "slipway one-line": {4, 16}, "floor one-line": {1.5, 12},
		"ko one-line": {3, 14}, "slipway cold": {40, 55}, "skaffold-final cold": {39, 60},
		"slipway-one-pod one-line": {4, 15}, "slipway-one-pod unchanged": {1, 4},
		"skaffold-baseline cold": {79, 99}, "skaffold-final unchanged": {0.1, 3}, "slipway unchanged": {2, 12},
		"skaffold-final-fresh unchanged": {20, 42},
		"slipway in-turn-8":              {0, 90}, "slipway at-once-8": {0, 100},
	})
	want := map[string]string{
		"one line, build: skaffold-final ÷ slipway ≥ 6":                           "6.00, met",
		"one line, build: slipway − floor ≤ 4 s":                                  "2.50 s, met",
		"one line, end to end: skaffold-final ÷ slipway ≥ 3":                      "2.81, missed",
		"one line, end to end: skaffold-final ÷ slipway-one-pod ≥ 3":              "3.00, met",
		"nothing changed, end to end: skaffold-final ÷ slipway-one-pod ≥ 3":       "0.75, missed",
		"cold, build: slipway ÷ skaffold-final ≤ 1":                               "1.03, missed",
		"skaffold-baseline cold ÷ slipway one line, build ≥ 20":                   "19.75, missed",
		"one line, end to end: slipway ÷ ko ≤ 1.2":                                "1.14, met",
		"nothing changed, end to end: skaffold-final ÷ slipway ≥ 3":               "0.25, missed",
		"nothing changed, end to end: skaffold-final-fresh ÷ slipway ≥ 3":         "3.50, met",
		"nothing changed, end to end: skaffold-final-fresh ÷ slipway-one-pod ≥ 3": "10.50, met",
		"one dependency, build: slipway − its one line ≤ 2 s":                     "not run",
		"8 at once: throughput ÷ one after another ≥ 0.9":                         "0.90, met",
		"service k of 20 on one cache: packages compiled beside its own ≤ 0":      "not run",
	}
	for _, g := range goals {
		if got := g.verdict(r, "small"); got != want[g.String()] {
			t.Errorf("%s: %q, not %q", g, got, want[g.String()])
		}
	}
	r.Failures = append(r.Failures, record{job: job{"slipway", "small", "at-once-8", 1}, Problem: "it broke"})
	at := slices.IndexFunc(goals, func(g goal) bool { return g.unfailing == "at-once-8" })
	if got := goals[at].verdict(r, "small"); got != "0.90, missed: 1 runs failed" {
		t.Errorf("with a failure among eight at once: %q", got)
	}
	if got := goals[0].verdict(r, "medium"); got != "not run" {
		t.Errorf("medium was not run, and has %q", got)
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]figures{"–": nil, "2.3": {2.34}, "3.0 (1.0–9.0)": {9, 1, 3}, "150 (100–200)": {100, 200}} {
		if got := f.String(); got != want {
			t.Errorf("%v is %q, not %q", []float64(f), got, want)
		}
	}
	r := measured(map[string][2]float64{"slipway cold": {1, 2}})
	r.Records = append(r.Records, record{job: job{"slipway", "small", "cold", 2}, SecondsTotal: seconds64(99)})
	if got := r.of("slipway", "small", "cold", total); len(got) != 1 {
		t.Errorf("a run that failed is among the figures: %v", got)
	}
}

func TestAReportSaysWhereSlipwayLoses(t *testing.T) {
	t.Parallel()
	r := measured(map[string][2]float64{"slipway one-line": {2, 14}, "ko one-line": {3, 13}, "floor one-line": {1, 9}})
	r.Machine.Cores = 2
	r.Records = append(r.Records, record{job: job{"ko", "small", "cold", 1}, Load: 9, Problem: "no such module"})
	r.Attempts = map[string]int{"ko small cold 1": 1, "slipway small one-line 1": 2, "slipway small warm-up 0": 1}
	content, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	files, err := report(content)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"- small, one-line, end to end: ko takes 13.0 s, Slipway 14.0.\n",
		"- ko small cold 1: no such module\n",
		"nothing is known of them: slipway small one-line 1.\n",
		"| ko | 1 | 3.0 | 13.0 |",
		"**1 of 4 runs began while others",
	} {
		if !strings.Contains(files["README.md"], want) {
			t.Errorf("README.md has no %q", want)
		}
	}
	for _, not := range []string{"build: ko takes", "floor takes", "![medium"} {
		if strings.Contains(files["README.md"], not) {
			t.Errorf("README.md has %q", not)
		}
	}
	chart := xml.NewDecoder(strings.NewReader(files["small.svg"]))
	for {
		if _, err := chart.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("small.svg is no XML: %v", err)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", ">14.0 s, build 2.0 s<"} {
		if !strings.Contains(files["small.svg"], want) {
			t.Errorf("small.svg has no %q", want)
		}
	}
}

// What docs/bench says is what its own bench.json says.
func TestThePublishedReportIsOfItsRecords(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(cluster.Root(), "docs", "bench")
	content, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := report(content)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("docs/bench/%s is not of its bench.json (%v): make bench-report", name, err)
		}
	}
}
