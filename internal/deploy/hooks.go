package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipway-ci/slipway/internal/step"
)

// stage is when a hook runs.
type stage string

const (
	before stage = "before" // the workloads are applied, once their configuration is
	after  stage = "after"  // everything is ready
	verify stage = "verify" // the hooks after it are done: the last word on whether the deploy worked
)

// hooks are Jobs of the overlay that a deploy runs, by when it does.
type hooks map[stage][]*target

// splitHooks takes the hooks out of objects. Each gets a name of its own in
// each attempt, since a Job runs once: the one of the deploy before is pruned
// with all that left the overlay.
func splitHooks(objects []*unstructured.Unstructured, attempt string) (rest []*unstructured.Unstructured, _ hooks, err error) {
	found := hooks{}
	for _, object := range objects {
		when := stage(object.GetAnnotations()[annotationHook])
		if when == "" {
			rest = append(rest, object)
			continue
		}
		if object.GroupVersionKind().GroupKind().String() != "Job.batch" {
			return nil, nil, step.BadInput(fmt.Errorf("%s has the annotation %s, which only a Job can have", located(object), annotationHook))
		}
		if !slices.Contains([]stage{before, after, verify}, when) {
			return nil, nil, step.BadInput(fmt.Errorf("%s: annotation %s is %q; give %s, %s or %s", located(object), annotationHook, when, before, after, verify))
		}
		if err := unstructured.SetNestedField(object.Object, true, "spec", "suspend"); err != nil {
			return nil, nil, step.BadInput(fmt.Errorf("%s: %w; mend the manifest", located(object), err))
		}
		object.SetName(nameOfAttempt(object.GetName(), attempt))
		found[when] = append(found[when], &target{object: object})
	}
	return rest, found, nil
}

// nameOfAttempt is a name like name that nothing else has, of at most the 63
// bytes that a Job and a Service may have.
func nameOfAttempt(name, attempt string) string {
	suffix := "-" + attempt[:6]
	return strings.TrimRight(name[:min(len(name), 63-len(suffix))], "-.") + suffix
}

func (h hooks) all() []*target { return slices.Concat(h[before], h[after], h[verify]) }

// runHooks runs the hooks of a stage to their end, one after the other.
func (d *deployment) runHooks(ctx context.Context, h hooks, when stage) error {
	for _, t := range h[when] {
		if err := d.runHook(ctx, t); err != nil {
			return refusal(t, err)
		}
		logf(d.log, "%s started, a hook (%s)", called(t.object), when)
		if err := d.await(ctx, []*target{t}); err != nil {
			return err
		}
	}
	return nil
}

// runHook creates a hook's Job, suspended, and starts it once the inventory is
// known to be the run's still: so a newer run finds it when it fences.
func (d *deployment) runHook(ctx context.Context, t *target) error {
	was := d.now.Writing
	if err := d.setWriting(ctx, true); err != nil {
		return err
	}
	if err := d.write(ctx, t); err != nil {
		return err
	}
	if err := d.setWriting(ctx, was); err != nil {
		return err
	}
	t.before = t.after
	for {
		err := d.persist(ctx, called(t.object), func() error {
			now, err := t.patch(ctx, fieldManager, map[string]any{"spec": map[string]any{"suspend": false}})
			if err == nil {
				t.after = now
			}
			return err
		})
		if !changedMeanwhile(err) && !apierrors.IsNotFound(err) {
			return err
		}
		// Its controller has noted that it is suspended, or a newer run was here.
		if err := d.persist(ctx, called(t.object), func() error { return t.read(ctx) }); err != nil {
			return err
		}
		if err := d.held(ctx); err != nil {
			return err
		}
		if t.before == nil {
			return errors.New("someone deleted it before it was started; deploy again")
		}
	}
}

// fence keeps hooks of earlier runs that are not started from being so: who
// would start them has read another version.
func (d *deployment) fence(ctx context.Context) error {
	for _, id := range d.now.Leftovers {
		t := &target{object: id.object()}
		if !isJob(t.object) {
			continue
		}
		attempt := func() (err error) {
			if t.resource, err = d.resource(t.object); err != nil {
				return err
			}
			if err := t.read(ctx); err != nil || t.before == nil || t.before.GetAnnotations()[annotationHook] == "" || !isSuspended(t.before) {
				return err
			}
			_, err = t.touch(ctx, d.attempt)
			return err
		}
		err := d.persist(ctx, called(t.object), attempt)
		for changedMeanwhile(err) {
			err = d.persist(ctx, called(t.object), attempt)
		}
		if err != nil && !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
			return fmt.Errorf("keep %s, a hook of an earlier run, from being started: %w", located(t.object), d.grant(err))
		}
	}
	return nil
}

func isSuspended(job *unstructured.Unstructured) bool {
	suspended, _, _ := unstructured.NestedBool(job.Object, "spec", "suspend")
	return suspended
}
