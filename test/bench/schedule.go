package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/test/flow"
)

// bench runs jobs one after another.
type bench struct {
	cluster  *flow.Cluster
	results  *results
	resolved string
	gos      []string // versions of Go that are needed; the first, "", is the usual one
	work     string   // folder for repositories
	logs     string   // folder for the logs of each run
	out      io.Writer

	sites map[string]*site // by contender and size
}

// all runs the jobs that are not done yet, in an order that is random and the
// same each time that it goes on.
func (b *bench) all(ctx context.Context, jobs []job) error {
	left := order(jobs, b.results)
	fmt.Fprintf(b.out, "%d runs, %d of them done already; %s\n", len(jobs), len(jobs)-len(left), estimate(left, b.results.Records))
	for len(left) > 0 {
		j, warm, err := b.next(ctx, left)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "%s  %s\n", time.Now().Format("15:04:05"), j)
		r, err := b.one(ctx, j, warm)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", j, err)
		}
		if r, err = b.results.add(r); err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(l job) bool { return l == j })
		fmt.Fprintf(b.out, "          %s; %d left, %s\n", r.summary(), len(left), estimate(left, b.results.Records))
	}
	return nil
}

// order is what is left of the jobs, shuffled.
func order(jobs []job, r *results) []job {
	shuffled := slices.Clone(jobs)
	slices.SortFunc(shuffled, func(a, b job) int { return strings.Compare(a.String(), b.String()) })
	random := rand.New(rand.NewPCG(uint64(r.Started.Unix()), 0))
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	return slices.DeleteFunc(shuffled, r.done)
}

// next is the first of the jobs: one that needs warm caches where there are none
// gives way to a cold one of the same site, which warms them. If there is none
// it wants a warm-up.
func (b *bench) next(ctx context.Context, left []job) (j job, warmUp bool, err error) {
	j = left[0]
	s, err := b.site(ctx, j)
	if err != nil {
		return job{}, false, err
	}
	kind, several := severals[j.Case]
	switch {
	case several:
		return j, !kind.cold && (s.state.Built == nil || s.state.Services < kind.services), nil
	case cases[j.Case].cold, s.state.Built != nil, contestants[j.Contender].alwaysCold && j.Case != "unchanged":
		return j, false, nil
	}
	if i := slices.IndexFunc(left, func(other job) bool {
		return other.Contender == j.Contender && other.App == j.App && cases[other.Case].cold
	}); i >= 0 {
		return left[i], false, nil
	}
	return j, true, nil
}

// warmUp builds once, for nobody to measure.
func (b *bench) warmUp(ctx context.Context, s *site) error {
	j := job{Contender: s.contender, App: s.size, Case: "warm-up"}
	attempt, err := b.results.attempt(j)
	if err != nil {
		return err
	}
	fmt.Fprintln(b.out, "          a warm-up first")
	r, err := b.build(ctx, s, j, source{Line: b.text(j, attempt)})
	if err == nil && !r.OK {
		err = errors.New(r.Problem)
	}
	return err
}

// site is the one that the job is done at.
func (b *bench) site(ctx context.Context, j job) (*site, error) {
	key := j.Contender + " " + j.App
	if s, ok := b.sites[key]; ok {
		return s, nil
	}
	s, err := newSite(ctx, b.cluster, j.Contender, j.App, b.resolved, b.work)
	if err != nil {
		return nil, err
	}
	s.gos, s.slipway = b.gos, b.results.Slipway.Manifests
	for _, version := range b.gos[1:] {
		if err := s.pushGolang(ctx, version); err != nil {
			return nil, err
		}
	}
	if err := contestants[j.Contender].install(ctx, s); err != nil {
		return nil, fmt.Errorf("install %s: %w", j.Contender, err)
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	b.sites[key] = s
	return s, nil
}

// text is in the source of one attempt and of no other, but for the same
// attempt of other contenders.
func (b *bench) text(j job, attempt int) string {
	return fmt.Sprintf("%s %d.%d of the run of %s", j.Case, j.Run, attempt, b.results.Started.Format(time.DateTime))
}

// one does a job.
func (b *bench) one(ctx context.Context, j job, warmUp bool) (record, error) {
	s, err := b.site(ctx, j)
	if err != nil {
		return record{}, err
	}
	several, isSeveral := severals[j.Case]
	if warmUp {
		if s.state.Built == nil {
			err = b.warmUp(ctx, s)
		}
		if err == nil && isSeveral {
			err = b.warmUpSeveral(ctx, s, several.services)
		}
		if err != nil {
			return record{job: j, Started: time.Now().UTC(), Problem: "warm-up: " + err.Error()}, nil //nolint:nilerr // the record says so
		}
	}
	attempt, err := b.results.attempt(j)
	if err != nil {
		return record{}, err
	}
	if isSeveral {
		return b.several(ctx, s, j, several, b.text(j, attempt))
	}
	var last source
	if s.state.Built != nil {
		last = *s.state.Built
	}
	kind := cases[j.Case]
	if kind.cold {
		if err := b.forget(ctx, s); err != nil {
			return record{}, err
		}
	}
	return b.build(ctx, s, j, kind.of(b.text(j, attempt), j.Run, last))
}

// calm waits until the runs before, and whatever else the machine did, are no
// longer in its load, but no longer than a few minutes: then the record says so.
func (b *bench) calm(ctx context.Context) {
	limit := disturbed * float64(b.results.Machine.Cores)
	for left := calmFor; left > 0 && loadAverage() > limit; left -= calmStep {
		if left == calmFor {
			fmt.Fprintf(b.out, "          waiting for the machine, whose load is %.1f\n", loadAverage())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(calmStep):
		}
	}
}

const calmFor, calmStep = 3 * time.Minute, 5 * time.Second

// settle waits until the disk has what the runs before have written, which would
// be in the time of the next one.
func settle() { unix.Sync() }

// forget empties a site's caches.
func (b *bench) forget(ctx context.Context, s *site) error {
	if err := contestants[s.contender].forget(ctx, s); err != nil {
		return fmt.Errorf("empty the caches: %w", err)
	}
	return s.save(ctx, state{Generation: s.state.Generation + 1, Services: s.state.Services})
}

// build builds a source, and looks at what came of it. An error is one of the
// benchmarks themselves; a contender that fails has a record that says so.
func (b *bench) build(ctx context.Context, s *site, j job, src source) (record, error) {
	b.calm(ctx)
	r := record{job: j, Started: time.Now().UTC(), Load: loadAverage(), Source: src}
	// Until it has ended, nobody knows what its caches hold.
	if err := s.save(ctx, state{Generation: s.state.Generation, Services: s.state.Services}); err != nil {
		return record{}, err
	}
	if err := s.write(src); err != nil {
		return record{}, err
	}
	s.logs = filepath.Join(b.logs, strings.ReplaceAll(j.String(), " ", "-"))
	seen, err := observe(ctx, b.cluster, s.namespace, s.logs)
	if err != nil {
		return record{}, err
	}
	settle()
	done, err := contestants[s.contender].run(ctx, s, seen)
	used := seen.end()
	if err != nil {
		r.Problem = err.Error()
		return r, nil //nolint:nilerr // the record says so
	}
	r.SecondsTotal, r.SecondsBuild = known(done.total), known(done.build)
	r.CPUSeconds = known(used.cpu + done.cpu)
	r.Compiled, r.Phases = done.compiled, done.phases
	if used.in > 0 {
		r.BytesPulled, r.BytesPushed = &used.in, &used.out
	}
	if err := s.check(ctx, &r); err != nil {
		r.Problem = err.Error()
		return r, nil //nolint:nilerr // the record says so
	}
	r.OK = true
	return r, s.save(ctx, state{Built: &src, Generation: s.state.Generation, Services: s.state.Services})
}

// check wants the app to answer with what its source says, and takes note of
// its program.
func (s *site) check(ctx context.Context, r *record) (err error) {
	if err := flow.Eventually(ctx, 20*time.Second, "the answer of "+s.deployment(), func(ctx context.Context) error {
		answer, err := s.Ask(ctx, s.namespace, s.deployment(), "/api/items")
		if err != nil {
			return err
		}
		for _, words := range r.Source.answer() {
			if !strings.Contains(answer, words) {
				return fmt.Errorf("%q is not in the answer %q", words, answer)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	r.Digest, r.Binary, err = s.rolledOut(ctx)
	return err
}

// known is nil for what is not known.
func known(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	s := seconds(d)
	return &s
}

// summary is a run in a line.
func (r record) summary() string {
	if !r.OK {
		return "FAILED: " + r.Problem
	}
	return fmt.Sprintf("%s s, build %s s", figure(r.SecondsTotal), figure(r.SecondsBuild))
}

// estimate says how long the jobs will take, from what like ones took: those of
// the same contender, of any, or of any app. Warm-ups are not in it.
func estimate(left []job, records []record) string {
	var total time.Duration
	for _, j := range left {
		took := float64(unlike)
		for _, like := range []func(record) bool{
			func(r record) bool { return r.Case == j.Case },
			func(r record) bool { return r.Case == j.Case && r.App == j.App },
			func(r record) bool { return r.Case == j.Case && r.App == j.App && r.Contender == j.Contender },
		} {
			var all []float64
			for _, r := range records {
				if r.OK && r.SecondsTotal != nil && like(r) {
					all = append(all, *r.SecondsTotal)
				}
			}
			if len(all) > 0 {
				took = median(all)
			}
		}
		total += time.Duration((took + betweenRuns) * float64(time.Second))
	}
	return fmt.Sprintf("about %d min", int(total.Minutes()+0.5))
}

// unlike is how many seconds a run is thought to take of a case that nobody has
// run yet.
const unlike = 60

// betweenRuns is what a run takes beside its own time: to write the source, to
// see the pipeline's end, to look at the image.
const betweenRuns = 5 // seconds
