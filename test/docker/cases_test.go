package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// expectation is what is to come out of a case.
type expectation struct {
	verdict oracle.Verdict
	why     string // as in [oracle.Result]
	says    string // is in Slipway's log
}

// expected are the cases that do not lead to the same image. All others do.
var expected = map[string]expectation{
	"fails":                  {verdict: oracle.Equal, why: oracle.BothFail},
	"run-heredoc-shell":      {verdict: oracle.Equal, why: oracle.BothFail},
	"from-arg-in-the-middle": {verdict: oracle.Equal, why: oracle.BothFail, says: "Dockerfile:3"},
	"from-arg-without-value": {verdict: oracle.Equal, why: oracle.BothFail, says: "Dockerfile:3"},
	// Tekton mounts a folder there.
	"workspace-in-image": {verdict: oracle.Refused, says: "Dockerfile:4"},
	"var-run":            {verdict: oracle.Refused, says: "ignore-var-run"},
}

// TestCases builds each folder of testdata/cases with both.
func TestCases(t *testing.T) {
	o, err := oracle.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	left := maps.Clone(expected)
	for _, dir := range cases(t) {
		name := filepath.Base(dir)
		want, ok := left[name]
		if !ok {
			want = expectation{verdict: oracle.Equal}
		}
		delete(left, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := o.Check(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			bad := result.Verdict != want.verdict || want.verdict == oracle.Equal && result.Why != want.why
			if bad {
				t.Errorf("%s\nwant: %s %s", result, want.verdict, want.why)
			}
			if !strings.Contains(result.SlipwayLog, want.says) {
				t.Errorf("Slipway does not say %q", want.says)
			}
			if t.Failed() {
				t.Logf("BuildKit says:\n%s", result.BuildKitLog)
				t.Logf("Slipway says:\n%s", result.SlipwayLog)
			}
		})
	}
	for name := range left {
		t.Errorf("no case is called %s", name)
	}
}

// cases are the folders of testdata/cases.
func cases(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("testdata/cases")
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, entry := range entries {
		if entry.IsDir() {
			dirs = append(dirs, filepath.Join("testdata/cases", entry.Name()))
		}
	}
	slices.Sort(dirs)
	return dirs
}
