package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway-ci/slipway/internal/step"
)

// results is bench.json: what one machine measured of one Slipway.
type results struct {
	Machine machine   `json:"machine"`
	Slipway version   `json:"slipway"`
	Started time.Time `json:"started"`
	// Attempts counts how often each job was begun, whatever became of it, so
	// that no line of source is ever built twice.
	Attempts map[string]int `json:"attempts"`
	Records  []record       `json:"records"`
	// Failures are runs that failed and were done again.
	Failures []record `json:"failures,omitempty"`

	file string
}

// version is what was measured.
type version struct {
	Commit string `json:"commit"` // when the measuring began
	// Manifests is the SHA-256 of tasks and pipelines with their step images by
	// digest: the same for the same programs.
	Manifests string `json:"manifests"`
}

// record is one run. What is not known is null.
type record struct {
	job
	Started time.Time `json:"started"`
	// Load is how many processes wanted a core in the minute before: what others
	// do on the machine is in all figures but the CPU's.
	Load   float64 `json:"load"`
	Source source  `json:"source"`
	// SecondsTotal is from the push, or the start of the command, until the app
	// is rolled out.
	SecondsTotal *float64 `json:"seconds_total"`
	// SecondsBuild is from prepare's start to the digest in the registry for
	// slipway, and from the start of the container that builds until its last
	// word for the others.
	SecondsBuild *float64 `json:"seconds_build"`
	// CPUSeconds is of all pods of the run, and of the command that started it.
	CPUSeconds *float64 `json:"cpu_seconds"`
	Compiled   *int     `json:"compiled"` // packages
	// BytesPulled and BytesPushed are what the run's pods received and sent.
	BytesPulled *int64 `json:"bytes_pulled"`
	BytesPushed *int64 `json:"bytes_pushed"`
	Digest      string `json:"digest"` // of the image that was rolled out
	Binary      string `json:"binary"` // SHA-256 of the program in it
	// Phases divide the total, in the order of time.
	Phases []phase `json:"phases,omitempty"`
	OK     bool    `json:"ok"`
	// Problem says why it is not OK.
	Problem string `json:"problem,omitempty"`
}

// phase is a part of a run.
type phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// job is a run to be done.
type job struct {
	Contender string `json:"contender"`
	App       string `json:"app"`
	Case      string `json:"case"`
	Run       int    `json:"run"` // from 1
}

func (j job) String() string {
	return fmt.Sprintf("%s %s %s %d", j.Contender, j.App, j.Case, j.Run)
}

// readResults continues a file if it is of this machine and this Slipway, and
// sets another aside.
func readResults(file string, m machine, v version, now time.Time) (*results, error) {
	fresh := &results{Machine: m, Slipway: v, Started: now.UTC().Truncate(time.Second), Attempts: map[string]int{}, file: file}
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	} else if err != nil {
		return nil, err
	}
	found := &results{}
	if err := json.Unmarshal(content, found); err != nil {
		return nil, fmt.Errorf("read %s: %w; move it away to start anew", file, err)
	}
	if found.Machine != m || found.Slipway.Manifests != v.Manifests {
		aside := file + "." + found.Started.Format("20060102T150405")
		if err := os.Rename(file, aside); err != nil {
			return nil, err
		}
		return fresh, nil
	}
	found.file = file
	if found.Attempts == nil {
		found.Attempts = map[string]int{}
	}
	return found, nil
}

// save writes the file anew. It is complete at every instant.
func (r *results) save() error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.file), 0o755); err != nil {
		return err
	}
	return step.WriteFile(r.file, append(content, '\n'), 0o644)
}

// add keeps a record, in the place of one of the same job that failed, and
// returns it as it is once it is compared with the others.
func (r *results) add(done record) (record, error) {
	r.Records = slices.DeleteFunc(r.Records, func(old record) bool {
		if old.job == done.job {
			r.Failures = append(r.Failures, old)
		}
		return old.job == done.job
	})
	r.Records = append(r.Records, done)
	r.compare()
	return r.Records[len(r.Records)-1], r.save()
}

// compare fails all runs of a source of which they have built more than one
// program: all build with the same flags, and nobody knows who is right.
func (r *results) compare() {
	type built struct {
		app string
		of  source
	}
	first := map[built]*record{}
	for i := range r.Records {
		one := &r.Records[i]
		if one.Binary == "" {
			continue
		}
		other, ok := first[built{one.App, one.Source}]
		if !ok {
			first[built{one.App, one.Source}] = one
			continue
		}
		if other.Binary != one.Binary {
			one.OK, one.Problem = false, fmt.Sprintf("the program is %.12s, and %.12s where %s built the same source", one.Binary, other.Binary, other.job)
			other.OK, other.Problem = false, fmt.Sprintf("the program is %.12s, and %.12s where %s built the same source", other.Binary, one.Binary, one.job)
		}
	}
}

// failed counts the runs that went wrong, also where a later one did not.
func (r *results) failed(contender, app, kind string) int {
	n := 0
	for _, rec := range slices.Concat(r.Failures, r.Records) {
		if !rec.OK && rec.Contender == contender && rec.App == app && rec.Case == kind {
			n++
		}
	}
	return n
}

// done says whether the job needs no running any more.
func (r *results) done(j job) bool {
	return slices.ContainsFunc(r.Records, func(old record) bool { return old.job == j && old.OK })
}

// attempt counts one more of the job, before it begins.
func (r *results) attempt(j job) (int, error) {
	r.Attempts[j.String()]++
	return r.Attempts[j.String()], r.save()
}
