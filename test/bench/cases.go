package main

import (
	"fmt"
	"slices"
)

// cases are what may have changed since the last build. Each makes the source
// of a run from a text that is in no other run, and from the source before.
var cases = map[string]struct {
	about string
	cold  bool // every cache is emptied before
	of    func(text string, run int, last source) source
}{
	"cold":           {"every cache is empty", true, func(text string, _ int, _ source) source { return source{Line: text} }},
	"one-line":       {"one line of main.go changed", false, func(text string, _ int, _ source) source { return source{Line: text} }},
	"leaf-line":      {"one line changed in a package that most others import", false, func(text string, _ int, _ source) source { return source{Leaf: text} }},
	"one-dependency": {"one module added", false, func(text string, run int, _ source) source { return source{Line: text, Dependency: run} }},
	"go-version":     {"another Go in the base image", false, func(text string, run int, _ source) source { return source{Line: text, Go: goVersions[run-1]} }},
	"unchanged":      {"a commit that changes nothing", false, func(_ string, _ int, last source) source { return last }},
}

// severals are cases of several services with a claim in common: of the small
// app, whose only package of its own is main, by Slipway.
var severals = map[string]several{
	"in-turn-8": {services: 8}, "at-once-8": {services: 8, atOnce: true},
	"in-turn-4": {services: 4}, "at-once-4": {services: 4, atOnce: true},
	"in-turn-2": {services: 2}, "at-once-2": {services: 2, atOnce: true},
	"services-5":  {services: 5, cold: true},
	"services-20": {services: 20, cold: true},
}

// caseNames is their order in tables.
var caseNames = []string{
	"cold", "one-line", "leaf-line", "one-dependency", "go-version", "unchanged",
	"in-turn-2", "at-once-2", "in-turn-4", "at-once-4", "in-turn-8", "at-once-8",
	"services-5", "services-20",
}

// required is what is run unless CASE says otherwise.
var required = []string{"cold", "one-line", "unchanged", "in-turn-8", "at-once-8"}

// contestants are all contenders, in the order of the tables.
var contestants = map[string]contestant{
	"skaffold-baseline":     {contender: skaffold{}, about: "skaffold run, the seed's first skaffold.yaml", alwaysCold: true},
	"catalog-kaniko":        {contender: catalogKaniko(false), about: "a kaniko task with the catalog's params, no cache", alwaysCold: true},
	"catalog-kaniko-layers": {contender: catalogKaniko(true), about: "the same with kaniko's cache of layers"},
	"skaffold-final":        {contender: skaffold{final: true}, about: "skaffold run, the seed's last skaffold.yaml"},
	"skaffold-final-fresh":  {contender: skaffold{final: true, fresh: true}, about: "the same in a new home, as a CI job has one", cases: []string{"unchanged"}},
	"ko":                    {contender: ko, about: "ko in a Tekton step, its caches on a claim"},
	"slipway":               {contender: slipway{}, about: "this repository's pipeline, default settings"},
	"slipway-one-pod":       {contender: slipway{onePod: true}, about: "the same steps in one pod"},
	"floor":                 {contender: floor, about: "go build with hot caches, and one layer pushed", cases: []string{"one-line", "leaf-line", "one-dependency", "unchanged"}},
}

var contestantNames = []string{"skaffold-baseline", "catalog-kaniko", "catalog-kaniko-layers", "skaffold-final", "skaffold-final-fresh", "ko", "slipway", "slipway-one-pod", "floor"}

// selection narrows what is run. An empty list is the default.
type selection struct {
	cases, apps, with []string
	runs              int
}

// jobs lists what is to be run.
func (s selection) jobs() ([]job, error) {
	with, err := choose("contender", s.with, contestantNames, contestantNames)
	if err != nil {
		return nil, err
	}
	sizes, err := choose("app", s.apps, appNames, requiredApps)
	if err != nil {
		return nil, err
	}
	kinds, err := choose("case", s.cases, caseNames, required)
	if err != nil {
		return nil, err
	}
	if s.runs < 1 {
		return nil, fmt.Errorf("%d runs: there must be one at least", s.runs)
	}
	var jobs []job
	for _, name := range with {
		c := contestants[name]
		for _, size := range sizes {
			for _, kind := range kinds {
				runs := s.runs
				_, several := severals[kind]
				switch {
				case several && (name != "slipway" || size != "small"):
					continue
				case c.cases != nil && !slices.Contains(c.cases, kind), kind == "leaf-line" && apps[size].leaf == "":
					continue
				case c.alwaysCold:
					runs = 1
				case kind == "one-dependency":
					runs = min(runs, len(dependencies)) // each run adds another one
				case kind == "go-version":
					runs = min(runs, len(goVersions))
				}
				for run := range runs {
					jobs = append(jobs, job{Contender: name, App: size, Case: kind, Run: run + 1})
				}
			}
		}
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("nothing to run: none of the contenders %v has the cases %v with the apps %v", with, kinds, sizes)
	}
	return jobs, nil
}

// choose checks names against those that there are.
func choose(what string, wanted, all, normally []string) ([]string, error) {
	if len(wanted) == 0 {
		return normally, nil
	}
	for _, name := range wanted {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("no %s is called %q; there are %v", what, name, all)
		}
	}
	return wanted, nil
}
