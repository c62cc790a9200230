package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestResultsGoOnWhereTheyStopped(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "build", "bench.json")
	here, this := machine{ID: "here"}, version{"commit", "manifests"}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	r, err := readResults(file, here, this, now)
	if err != nil {
		t.Fatal(err)
	}
	good := job{"slipway", "small", "cold", 1}
	bad := job{"slipway", "small", "cold", 2}
	for _, j := range []job{good, bad} {
		if n, err := r.attempt(j); n != 1 || err != nil {
			t.Fatalf("attempt %d, %v", n, err)
		}
	}
	if err := r.add(record{job: good, OK: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.add(record{job: bad, Problem: "it broke"}); err != nil {
		t.Fatal(err)
	}

	r, err = readResults(file, here, version{"another commit that changes no program", "manifests"}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if !r.done(good) || r.done(bad) || !r.Started.Equal(now.Truncate(time.Second)) {
		t.Errorf("after a restart: done %v and %v, started %v", r.done(good), r.done(bad), r.Started)
	}
	if n, err := r.attempt(bad); n != 2 || err != nil {
		t.Errorf("the second attempt is the %d., %v", n, err)
	}
	if err := r.add(record{job: bad, OK: true}); err != nil {
		t.Fatal(err)
	}
	if len(r.Records) != 2 || !r.done(bad) {
		t.Errorf("a run that failed and was done again left %d records", len(r.Records))
	}

	for name, other := range map[string]struct {
		m machine
		v version
	}{
		"another machine": {machine{ID: "there"}, this},
		"another Slipway": {here, version{"commit", "other manifests"}},
	} {
		if err := r.save(); err != nil {
			t.Fatal(err)
		}
		fresh, err := readResults(file, other.m, other.v, now)
		if err != nil || len(fresh.Records) != 0 {
			t.Errorf("%s: %d records, %v", name, len(fresh.Records), err)
		}
		if _, err := os.Stat(file + ".20260102T030405"); err != nil {
			t.Errorf("%s: the old file is not set aside: %v", name, err)
		}
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		env  map[string]string
		want int
	}{
		// Two contenders that are always cold: 3 cases × 2 apps, once. Five
		// others: 3 × 2 × 3. The floor has no cold; skaffold in a new home has the
		// unchanged alone. Two of eight, thrice.
		{"required", nil, 2*6 + 5*18 + 12 + 6 + 6},
		{"narrowed", map[string]string{"CASE": "one-line", "APP": "small", "WITH": "slipway,floor", "RUNS": "2"}, 4},
		{"no leaf", map[string]string{"CASE": "leaf-line", "APP": "small", "WITH": "slipway"}, 0},
		{"no more runs than modules to add", map[string]string{"CASE": "one-dependency", "APP": "small", "WITH": "slipway", "RUNS": "99"}, len(dependencies)},
	} {
		s, err := selected(func(name string) string { return test.env[name] })
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := s.jobs()
		if err != nil || len(jobs) != test.want {
			t.Errorf("%s: %d jobs, %v, not %d", test.name, len(jobs), err, test.want)
		}
	}
	for name, env := range map[string]map[string]string{
		"case": {"CASE": "hot"}, "app": {"APP": "huge"}, "contender": {"WITH": "make"}, "runs": {"RUNS": "0"}, "number": {"RUNS": "all"},
	} {
		s, err := selected(func(name string) string { return env[name] })
		if err == nil {
			_, err = s.jobs()
		}
		if err == nil {
			t.Errorf("a wrong %s is taken", name)
		}
	}
}

func TestTheOrderIsTheSameAfterARestart(t *testing.T) {
	t.Parallel()
	jobs, err := selection{runs: 3}.jobs()
	if err != nil {
		t.Fatal(err)
	}
	r := &results{Started: time.Unix(1, 0)}
	all := order(jobs, r)
	r.Records = []record{{job: all[0], OK: true}, {job: all[1], Problem: "it broke"}}
	rest := order(jobs, r)
	if len(rest) != len(all)-1 || rest[0] != all[1] || rest[1] != all[2] {
		t.Errorf("the order was %v…, and goes on with %v…", all[:3], rest[:2])
	}
	if all[0] == jobs[0] && all[1] == jobs[1] && all[2] == jobs[2] {
		t.Error("it is not random")
	}
}

func TestAFastWrongBuildIsNoted(t *testing.T) {
	t.Parallel()
	src := source{Line: "a line"}
	earlier := []record{{job: job{"floor", "small", "one-line", 1}, Source: src, Binary: "aaaa", OK: true}}
	mine := record{job: job{"slipway", "small", "one-line", 1}, Source: src, Binary: "aaaa"}
	if err := sameProgram(mine, earlier); err != nil {
		t.Error(err)
	}
	mine.Binary = "bbbb"
	if sameProgram(mine, earlier) == nil {
		t.Error("another program passes")
	}
	mine.Source.Line = "another line"
	if err := sameProgram(mine, earlier); err != nil {
		t.Errorf("another source is compared: %v", err)
	}
}
