package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// several are builds of services that share a claim: at the same time, or one
// after another.
type several struct {
	services int
	atOnce   bool
	// cold has the caches emptied before the first, and each service's module
	// another name, so that they have nothing in common but what they import.
	cold bool
}

func (k several) String() string {
	what := "a line changed in each"
	if k.cold {
		what = "modules of their own, which no cache has seen"
	}
	how := "one after another"
	if k.atOnce {
		how = "at the same time"
	}
	return fmt.Sprintf("%d services on one claim, %s, %s", k.services, what, how)
}

// warmUpSeveral builds services that were never built, for nobody to measure.
func (b *bench) warmUpSeveral(ctx context.Context, s *site, services int) error {
	if s.state.Services >= services {
		return nil
	}
	j := job{Contender: s.contender, App: s.size, Case: fmt.Sprintf("warm-up-%d", services)}
	attempt, err := b.results.attempt(j)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "          a warm-up of %d services first\n", services)
	r, err := b.several(ctx, s, j, several{services: services}, b.text(j, attempt))
	if err == nil && !r.OK {
		err = errors.New(r.Problem)
	}
	if err != nil {
		return err
	}
	next := s.state
	next.Services = services
	return s.save(ctx, next)
}

// several does a job of several builds. Its total is the time from the first
// push until all are rolled out; one after another, the sum of theirs. What was
// compiled is the most that any service but the first did.
func (b *bench) several(ctx context.Context, s *site, j job, kind several, text string) (record, error) {
	b.calm(ctx)
	r := record{job: j, Started: time.Now().UTC(), Load: loadAverage(), Source: source{Line: text}}
	if kind.cold {
		if err := b.forget(ctx, s); err != nil {
			return record{}, err
		}
	}
	var services []*site
	var sources []source
	for i := range kind.services {
		service := *s
		service.service = i + 1
		dir := filepath.Join(b.work, s.contender, fmt.Sprintf("%s-%d-%d", s.size, i+1, time.Now().UnixNano()))
		var err error
		if service.repo, err = s.NewRepository(ctx, service.repository(), filepath.Join(cluster.Root(), s.app.dir), dir); err != nil {
			return record{}, err
		}
		// Each has a line of its own, so that none builds what another has.
		src := source{Line: fmt.Sprintf("%s, service %d", text, i+1)}
		if kind.cold {
			src.Module = fmt.Sprintf("%s-%d", s.app.name, i+1)
		}
		if err := service.write(src); err != nil {
			return record{}, err
		}
		services, sources = append(services, &service), append(sources, src)
	}
	seen, err := observe(ctx, b.cluster, s.namespace, filepath.Join(b.logs, strings.ReplaceAll(j.String(), " ", "-")))
	if err != nil {
		return record{}, err
	}
	settle()
	turns := [][]*site{services}
	if !kind.atOnce {
		turns = slices.Collect(slices.Chunk(services, 1))
	}
	var total time.Duration
	var reports []flow.Report
	for _, turn := range turns {
		var took time.Duration
		var built []flow.Report
		if took, built, err = rollOut(ctx, turn); err != nil {
			break
		}
		total += took
		reports = append(reports, built...)
	}
	used := seen.end()
	if err != nil {
		r.Problem = err.Error()
		return r, nil //nolint:nilerr // the record says so
	}
	r.SecondsTotal, r.CPUSeconds = known(total), known(used.cpu)
	if used.in > 0 {
		r.BytesPulled, r.BytesPushed = &used.in, &used.out
	}
	r.Compiled = most(reports[1:])
	for i, service := range services {
		part := record{job: j, Source: sources[i]}
		if err := service.check(ctx, &part); err != nil {
			r.Problem = fmt.Sprintf("service %d: %v", i+1, err)
			return r, nil
		}
	}
	r.OK = true
	return r, nil
}

// most is the greatest number of packages that were compiled; nil if one is not
// known.
func most(reports []flow.Report) *int {
	n := 0
	for _, r := range reports {
		if r.Compiled == nil {
			return nil
		}
		n = max(n, *r.Compiled)
	}
	return &n
}

// rollOut pushes all services, and returns how long it takes until the last is
// rolled out. It asks for all runs with one question, so that watching eight
// costs what watching one does.
func rollOut(ctx context.Context, services []*site) (time.Duration, []flow.Report, error) {
	s := services[0]
	var commits []string
	for _, service := range services {
		commit, err := service.repo.Commit(ctx, "bench")
		if err != nil {
			return 0, nil, err
		}
		commits = append(commits, commit)
	}
	start := time.Now()
	var runs []string
	for i, service := range services {
		if err := service.repo.PushCommits(ctx); err != nil {
			return 0, nil, err
		}
		run, err := slipway{}.pipelineRun(service, commits[i])
		if err != nil {
			return 0, nil, err
		}
		name, err := s.Start(ctx, run)
		if err != nil {
			return 0, nil, err
		}
		runs = append(runs, name)
	}
	var last time.Time
	err := flow.Eventually(ctx, 10*time.Minute, "all runs", func(ctx context.Context) error {
		list, err := s.Tekton.TektonV1().TaskRuns(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: "tekton.dev/pipelineRun in (" + strings.Join(runs, ",") + "),tekton.dev/pipelineTask=deploy"})
		if err != nil {
			return err
		}
		for _, task := range list.Items {
			if !task.IsDone() {
				return fmt.Errorf("%s is under way", task.Name)
			}
		}
		if len(list.Items) < len(runs) {
			if failed(ctx, s, runs) != nil {
				return nil //nolint:nilerr // there is nothing more to wait for
			}
			return fmt.Errorf("%d of %d deploys have begun", len(list.Items), len(runs))
		}
		if last.IsZero() {
			last = time.Now()
		}
		// What comes after the deploy is not part of the time, but must not be
		// part of the next either.
		return ended(ctx, s, runs)
	})
	if err != nil {
		return 0, nil, errors.Join(err, s.cancel(ctx, runs...))
	}
	if err := failed(ctx, s, runs); err != nil {
		return 0, nil, errors.Join(err, s.cancel(ctx, runs...))
	}
	var reports []flow.Report
	for _, name := range runs {
		run, err := s.Tekton.TektonV1().PipelineRuns(s.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return 0, nil, err
		}
		var report flow.Report
		for _, result := range run.Status.Results {
			if result.Name == "build-report" {
				if err := json.Unmarshal([]byte(result.Value.StringVal), &report); err != nil {
					return 0, nil, fmt.Errorf("read the build-report of %s: %w", name, err)
				}
			}
		}
		reports = append(reports, report)
	}
	return last.Sub(start), reports, nil
}

// failed says which of the runs did.
func failed(ctx context.Context, s *site, runs []string) error {
	var all []error
	for _, name := range runs {
		run, err := s.Tekton.TektonV1().PipelineRuns(s.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := run.Status.GetCondition(apis.ConditionSucceeded); c.IsFalse() {
			all = append(all, fmt.Errorf("PipelineRun %s: %s", name, c.GetMessage()))
		}
	}
	return errors.Join(all...)
}

// ended says which of the runs have not.
func ended(ctx context.Context, s *site, runs []string) error {
	for _, name := range runs {
		run, err := s.Tekton.TektonV1().PipelineRuns(s.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !run.IsDone() {
			return fmt.Errorf("PipelineRun %s is under way", name)
		}
	}
	return nil
}
