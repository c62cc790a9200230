package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/test/docker/oracle"
)

const (
	kanikoPage = "../../docs/kaniko.md"
	// alikeCase is one that both read in the same way: kaniko alone makes
	// BuildKit's image of it, or these tests compare something else.
	alikeCase = "plain"
)

// TestWorkarounds builds the cases of the table "What is worked around" of
// docs/kaniko.md with kaniko alone: each must still need us.
func TestWorkarounds(t *testing.T) {
	page, err := os.ReadFile(kanikoPage)
	if err != nil {
		t.Fatal(err)
	}
	named := workarounds(string(page))
	if len(named) == 0 {
		t.Fatalf("%s names no case", kanikoPage)
	}
	o := startedBuilders(t)
	for _, name := range append(named, alikeCase) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(casesDir, name)
			if _, err := os.Stat(dir); err != nil {
				t.Fatalf("%s names a case that is not there: %v", kanikoPage, err)
			}
			result, err := o.CheckKaniko(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case name == alikeCase && result.Verdict != oracle.Equal:
				t.Errorf("kaniko alone does not make BuildKit's image: %s\n%s", result, result.SlipwayLog)
			case name != alikeCase && result.Verdict == oracle.Equal:
				t.Errorf("kaniko makes this image by itself: the workaround may be needless; remove it, and the row of docs/kaniko.md")
			default:
				t.Log(result)
			}
		})
	}
}

// inBackticks is a case's name in the table.
var inBackticks = regexp.MustCompile("`([^`]+)`")

// workarounds are the cases that the first column of the table names.
func workarounds(page string) []string {
	_, section, _ := strings.Cut(page, "\n## What is worked around\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || cells[0] != "" {
			continue
		}
		for _, match := range inBackticks.FindAllStringSubmatch(cells[1], -1) {
			names = append(names, match[1])
		}
	}
	slices.Sort(names)
	return names
}
