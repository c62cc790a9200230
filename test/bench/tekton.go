package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/test/flow"
)

// slipway is what a user of ours has, with default settings.
type slipway struct{ onePod bool }

func (slipway) install(ctx context.Context, s *site) error {
	return s.Install(ctx, s.namespace, s.resolved)
}

func (slipway) forget(ctx context.Context, s *site) error { return s.emptyClaim(ctx) }

// pipelineRun is the example's with the names of the site.
func (c slipway) pipelineRun(s *site, commit string) (*v1.PipelineRun, error) {
	newRun := s.NewRun
	if c.onePod {
		newRun = s.NewOnePodRun
	}
	run, err := newRun(s.namespace, flow.App{Name: s.app.name, Repository: s.repository(), Overlay: overlay}, commit)
	if err != nil {
		return nil, err
	}
	flow.SetParam(run, "image", *v1.NewStructuredValues(s.image(s.Registry)))
	return run, nil
}

func (c slipway) run(ctx context.Context, s *site, _ *observer) (outcome, error) {
	return s.follow(ctx, func(commit string) (*v1.PipelineRun, error) { return c.pipelineRun(s, commit) }, func(run *flow.Run, o *outcome) error {
		task := "build"
		if c.onePod {
			task = onePodTask
		}
		report, err := run.ReportOf(task)
		if err != nil {
			return err
		}
		o.build, o.compiled = time.Duration(report.Seconds*float64(time.Second)), report.Compiled
		return nil
	})
}

// pipeline is a contender that brings a build for a pipeline that is otherwise
// Slipway's own.
type pipeline struct {
	task   string                             // manifest of the Task bench-build
	step   string                             // the container that builds
	caches bool                               // whether it has a folder of the claim
	images func(context.Context, *site) error // makes the images it needs; may be nil
	source func(*site) error                  // makes what it needs in the source; may be nil
	params func(*site) map[string]any         // of the Task
	image  func(*site) string                 // what it built, as the pipeline knows it
}

//go:embed manifests/run.yaml
var runManifest string

var runTemplate = template.Must(template.New("run").Parse(runManifest))

func (p pipeline) install(ctx context.Context, s *site) error {
	if err := s.Install(ctx, s.namespace, s.resolved); err != nil {
		return err
	}
	if p.images != nil {
		if err := p.images(ctx, s); err != nil {
			return err
		}
	}
	return s.Apply(ctx, s.namespace, p.task)
}

func (p pipeline) forget(ctx context.Context, s *site) error { return s.emptyClaim(ctx) }

func (p pipeline) run(ctx context.Context, s *site, seen *observer) (outcome, error) {
	if p.source != nil {
		if err := p.source(s); err != nil {
			return outcome{}, err
		}
	}
	done, err := s.follow(ctx, func(commit string) (*v1.PipelineRun, error) { return p.manifest(s, s.repo.URL(), commit) }, nil)
	if err != nil {
		return outcome{}, err
	}
	_, last, err := seen.spoke(p.step)
	done.build = last.Sub(done.started[p.step])
	return done, err
}

func (p pipeline) manifest(s *site, url, commit string) (*v1.PipelineRun, error) {
	var params []map[string]any
	for name, value := range p.params(s) {
		params = append(params, map[string]any{"name": name, "value": value})
	}
	encoded, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	var manifest bytes.Buffer
	if err := runTemplate.Execute(&manifest, map[string]any{
		"Namespace": s.namespace, "URL": url, "Commit": commit, "Params": string(encoded),
		"Caches": p.caches, "Overlay": overlay, "App": s.app.name, "Image": p.image(s),
	}); err != nil {
		return nil, err
	}
	run := &v1.PipelineRun{}
	return run, yaml.UnmarshalStrict(manifest.Bytes(), run)
}

// follow pushes what the repository has, starts the run that make makes of the
// commit, and follows it until all of it has ended.
func (s *site) follow(ctx context.Context, make func(commit string) (*v1.PipelineRun, error), read func(*flow.Run, *outcome) error) (outcome, error) {
	log, err := os.Create(filepath.Join(s.logs, "run.log"))
	if err != nil {
		return outcome{}, err
	}
	defer log.Close()
	commit, err := s.repo.Commit(ctx, "bench")
	if err != nil {
		return outcome{}, err
	}
	start := time.Now()
	if err := s.repo.PushCommits(ctx); err != nil {
		return outcome{}, err
	}
	pipelineRun, err := make(commit)
	if err != nil {
		return outcome{}, err
	}
	name, err := s.Start(ctx, pipelineRun)
	if err != nil {
		return outcome{}, err
	}
	run, err := s.Follow(ctx, s.namespace, name, start, log)
	if err != nil {
		return outcome{}, errors.Join(err, s.cancel(ctx, name))
	}
	if !run.Succeeded() {
		var why []error
		for id, task := range run.Tasks {
			if !task.IsSuccessful() {
				why = append(why, fmt.Errorf("%s: %s", id, task.Status.GetCondition(apis.ConditionSucceeded).GetMessage()))
			}
		}
		return outcome{}, fmt.Errorf("PipelineRun %s: %w; see %s", name, errors.Join(why...), log.Name())
	}
	ran := tasksOf(run)
	done := outcome{total: run.Ended[ran[len(ran)-1]].Sub(start)}
	if err := s.steps(ctx, run, start, &done); err != nil {
		return outcome{}, err
	}
	if read != nil {
		err = read(run, &done)
	}
	return done, err
}

// cancel ends runs that nobody follows any more, and waits for their end: what
// is measured next must not share the node with them.
func (s *site) cancel(ctx context.Context, runs ...string) error {
	var all []error
	for _, name := range runs {
		patch := fmt.Sprintf(`{"spec":{"status":%q}}`, v1.PipelineRunSpecStatusCancelled)
		_, err := s.Tekton.TektonV1().PipelineRuns(s.namespace).Patch(context.WithoutCancel(ctx), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		all = append(all, err)
	}
	if err := errors.Join(all...); err != nil || ctx.Err() != nil {
		return err
	}
	return flow.Eventually(ctx, time.Minute, "the end of what was cancelled", func(ctx context.Context) error { return ended(ctx, s, runs) })
}

// emptyClaim removes the caches on the site's claim from the node's folder that
// it is. One that no pod has used yet is empty.
func (s *site) emptyClaim(ctx context.Context) error {
	claim, err := s.Kube.CoreV1().PersistentVolumeClaims(s.namespace).Get(ctx, "slipway", metav1.GetOptions{})
	if err != nil || claim.Spec.VolumeName == "" {
		return err
	}
	volume, err := s.Kube.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	switch source := volume.Spec.PersistentVolumeSource; {
	case source.HostPath != nil:
		return emptyFolder(filepath.Join(source.HostPath.Path, "cache"))
	case source.Local != nil:
		return emptyFolder(filepath.Join(source.Local.Path, "cache"))
	}
	return fmt.Errorf("empty claim slipway of namespace %s: volume %s is no folder of the node", s.namespace, volume.Name)
}
