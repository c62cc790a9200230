package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
		if err := d.held(ctx); err != nil {
			return err
		}
		if err := d.write(ctx, t); err != nil {
			return refusal(t, err)
		}
		logf(d.log, "%s started, a hook (%s)", called(t.object), when)
		if err := d.await(ctx, []*target{t}); err != nil {
			return err
		}
	}
	return nil
}
