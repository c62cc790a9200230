package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/slipway-ci/slipway/test/flow"
)

// several are builds of services that share a claim: at the same time, or one
// after another.
type several struct {
	services int
	atOnce   bool
}

// warmUpSeveral builds services that were never built, for nobody to measure.
func (b *bench) warmUpSeveral(ctx context.Context, s *site, services int) error {
	if s.state.Built == nil {
		if err := b.warmUp(ctx, s); err != nil {
			return err
		}
	}
	if s.state.Services >= services {
		return nil
	}
	j := job{Contender: s.contender, App: s.size, Case: fmt.Sprintf("warm-up-%d", services)}
	attempt, err := b.results.attempt(j)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%s  %s %s: a warm-up of %d services\n", time.Now().Format("15:04:05"), s.contender, s.size, services)
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
// push until all are rolled out; one after another, the sum of theirs.
func (b *bench) several(ctx context.Context, s *site, j job, kind several, text string) (record, error) {
	r := record{job: j, Started: time.Now().UTC(), Source: source{Line: text}}
	var services []*site
	for i := range kind.services {
		service := *s
		service.service = i + 1
		dir := filepath.Join(b.work, s.contender, fmt.Sprintf("%s-%d-%d", s.size, i+1, time.Now().UnixNano()))
		var err error
		if service.repo, err = s.NewRepository(ctx, service.repository(), filepath.Join(flow.Root(), s.app.dir), dir); err != nil {
			return record{}, err
		}
		// Each has a line of its own, so that none builds what another has.
		if err := service.write(source{Line: fmt.Sprintf("%s, service %d", text, i+1)}); err != nil {
			return record{}, err
		}
		services = append(services, &service)
	}
	seen, err := observe(ctx, b.cluster, s.namespace, filepath.Join(b.logs, strings.ReplaceAll(j.String(), " ", "-")))
	if err != nil {
		return record{}, err
	}
	var total time.Duration
	if kind.atOnce {
		total, err = rollOut(ctx, services)
	} else {
		for _, service := range services {
			var took time.Duration
			if took, err = rollOut(ctx, []*site{service}); err != nil {
				break
			}
			total += took
		}
	}
	used := seen.end()
	if err != nil {
		r.Problem = err.Error()
		return r, nil
	}
	r.SecondsTotal, r.CPUSeconds = known(total), known(used.cpu)
	if used.in > 0 {
		r.BytesPulled, r.BytesPushed = &used.in, &used.out
	}
	for i, service := range services {
		part := record{job: j, Source: source{Line: fmt.Sprintf("%s, service %d", text, i+1)}}
		if err := service.check(ctx, &part, nil); err != nil {
			r.Problem = fmt.Sprintf("service %d: %v", i+1, err)
			return r, nil
		}
	}
	r.OK = true
	return r, nil
}

// rollOut pushes all services, and returns how long it takes until the last is
// rolled out. It asks for all runs with one question, so that watching eight
// costs what watching one does.
func rollOut(ctx context.Context, services []*site) (time.Duration, error) {
	start := time.Now()
	s := services[0]
	var runs []string
	for _, service := range services {
		commit, err := service.repo.Push(ctx, "bench")
		if err != nil {
			return 0, err
		}
		run, err := slipway{}.pipelineRun(service, commit)
		if err != nil {
			return 0, err
		}
		name, err := s.Start(ctx, run)
		if err != nil {
			return 0, err
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
				return nil // there is nothing more to wait for
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
		return 0, err
	}
	return last.Sub(start), failed(ctx, s, runs)
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
