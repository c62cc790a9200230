package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// record is a line of a campaign's file: what became of a seed.
type record struct {
	Seed        uint64         `json:"seed"`
	Commit      string         `json:"commit,omitempty"` // of the code
	Verdict     oracle.Verdict `json:"verdict"`
	Differences []string       `json:"differences,omitempty"`
}

// state is what a campaign has done. Its methods may be called side by side.
type state struct {
	file *os.File // nil to keep nothing

	mu      sync.Mutex
	records map[uint64]record // by seed
}

// openState reads a campaign's file, or makes it. With no name there is none. A
// last line that a killed campaign has left half written goes.
func openState(name string) (*state, error) {
	s := &state{records: map[uint64]record{}}
	if name == "" {
		return s, nil
	}
	content, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	n := 0
	for line := range bytes.Lines(whole) {
		n++
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		s.records[r.Seed] = r
	}
	if len(whole) < len(content) {
		if err := os.Truncate(name, int64(len(whole))); err != nil {
			return nil, err
		}
	}
	s.file, err = os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return s, err
}

func (s *state) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// has reports whether there is a record of a seed.
func (s *state) has(seed uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.records[seed]
	return ok
}

// add keeps a record, in the file too.
func (s *state) add(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[r.Seed] = r
	if s.file == nil {
		return nil
	}
	_, err = s.file.Write(append(line, '\n'))
	return err
}

// tally counts records.
type tally struct {
	done     uint64
	verdicts map[oracle.Verdict]int
	commits  map[string]int
}

// tally counts the records of the n seeds from the first one on.
func (s *state) tally(from, n uint64) tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := tally{verdicts: map[oracle.Verdict]int{}, commits: map[string]int{}}
	for seed, r := range s.records {
		if seed < from || seed-from >= n {
			continue
		}
		t.done++
		t.verdicts[r.Verdict]++
		t.commits[r.Commit]++
	}
	return t
}

func (t tally) String() string {
	return fmt.Sprintf("%d equal, %d refused, %d differ", t.verdicts[oracle.Equal], t.verdicts[oracle.Refused], t.verdicts[oracle.Differs])
}

// runOn says which commits the seeds were checked at.
func (t tally) runOn() string {
	text := ""
	for _, commit := range slices.Sorted(maps.Keys(t.commits)) {
		if text != "" {
			text += ", "
		}
		name := commit
		if name == "" {
			name = "an unknown commit"
		}
		text += fmt.Sprintf("%d at %s", t.commits[commit], name)
	}
	return text
}
