package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// TestState ends a campaign in the midst of a record, and goes on with its file.
func TestState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	first := []record{
		{Seed: 7, Commit: "aaaa", Verdict: oracle.Equal},
		{Seed: 9, Commit: "aaaa", Verdict: oracle.Differs, Differences: []string{"/f: mode: 0644 with BuildKit, 0600 with Slipway"}},
	}
	s := reopen(t, file)
	for _, r := range first {
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
	}
	half, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.WriteString(`{"seed":8,"verd`); err != nil {
		t.Fatal(err)
	}

	s = reopen(t, file)
	for seed, want := range map[uint64]bool{7: true, 8: false, 9: true, 10: false} {
		if got := s.has(seed); got != want {
			t.Errorf("there is a record of seed %d: %t, want %t", seed, got, want)
		}
	}
	if err := s.add(record{Seed: 8, Commit: "bbbb", Verdict: oracle.Refused}); err != nil {
		t.Fatal(err)
	}

	s = reopen(t, file)
	for _, want := range append(first, record{Seed: 8, Commit: "bbbb", Verdict: oracle.Refused}) {
		if got := s.records[want.Seed]; !reflect.DeepEqual(got, want) {
			t.Errorf("seed %d: got %+v, want %+v", want.Seed, got, want)
		}
	}
	all := s.tally(7, 100)
	if got, want := all.String(), "1 equal, 1 refused, 1 differ"; got != want || all.done != 3 {
		t.Errorf("%d seeds: %s, want 3: %s", all.done, got, want)
	}
	if got, want := all.runOn(), "2 at aaaa, 1 at bbbb"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := s.tally(8, 1); got.done != 1 || got.verdicts[oracle.Refused] != 1 {
		t.Errorf("of seed 8 alone: %d, %s", got.done, got)
	}
}

func TestStateOfAnotherKind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(file, []byte("{\"seed\":1}\nnot a record\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(file); err == nil || !strings.Contains(err.Error(), file+":2") {
		t.Errorf("got the error %v, want one with the line", err)
	}
}

// reopen reads the file as a new campaign does.
func reopen(t *testing.T, file string) *state {
	t.Helper()
	s, err := openState(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
