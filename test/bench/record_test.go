package main

import (
	"os"
	"path/filepath"
	"slices"
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
	if _, err := r.add(record{job: good, OK: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.add(record{job: bad, Problem: "it broke"}); err != nil {
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
	if _, err := r.add(record{job: bad, OK: true}); err != nil {
		t.Fatal(err)
	}
	if len(r.Records) != 2 || !r.done(bad) {
		t.Errorf("a run that failed and was done again left %d records", len(r.Records))
	}
	if len(r.Failures) != 1 || r.Failures[0].Problem != "it broke" || r.failed("slipway", "small", "cold") != 1 {
		t.Errorf("of the failure is kept %v", r.Failures)
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
		"combination": {"CASE": "leaf-line", "APP": "small"},
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
	r := &results{file: filepath.Join(t.TempDir(), "bench.json")}
	src, other := source{Line: "a line"}, source{Line: "another line"}
	for _, test := range []struct {
		contender string
		src       source
		binary    string
		good      []string // contenders whose runs are good then
	}{
		{"slipway", src, "bbbb", []string{"slipway"}},
		{"ko", other, "cccc", []string{"slipway", "ko"}},
		// The first need not be right.
		{"floor", src, "aaaa", []string{"ko"}},
		{"skaffold-final", src, "aaaa", []string{"ko"}},
	} {
		done, err := r.add(record{job: job{test.contender, "small", "one-line", 1}, Source: test.src, Binary: test.binary, OK: true})
		if err != nil {
			t.Fatal(err)
		}
		var good []string
		for _, one := range r.Records {
			if one.OK {
				good = append(good, one.Contender)
			}
		}
		if !slices.Equal(good, test.good) || done.OK != slices.Contains(good, test.contender) {
			t.Errorf("after %s's %s the good runs are %v (%+v), want %v", test.contender, test.binary, good, done, test.good)
		}
	}
}
