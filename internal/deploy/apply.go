package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"github.com/slipway-ci/slipway/internal/step"
)

// fieldManager owns the fields that a deploy sets.
const fieldManager = "slipway"

// target is one object on its way into the cluster.
type target struct {
	object   *unstructured.Unstructured // as rendered
	resource dynamic.ResourceInterface
	before   *unstructured.Unstructured // as found, nil if it was not there
	after    *unstructured.Unstructured // as last seen once applied
}

// apply applies objects server-side, in their order, and logs what became of
// each. All of them are dry-run first, so that an object that the API server
// refuses stops the deploy before anything is changed. The one exception are
// objects whose kind or namespace is itself among objects and not there yet:
// those are dry-run as soon as it is.
func (c *cluster) apply(ctx context.Context, objects []*unstructured.Unstructured) ([]*target, error) {
	var grounds, rest []*target // grounds: what other objects need to exist at all
	for _, object := range objects {
		t := &target{object: object}
		if isNamespace(object) || isDefinition(object) {
			grounds = append(grounds, t)
		} else {
			rest = append(rest, t)
		}
	}
	later, err := c.tryAll(ctx, slices.Concat(grounds, rest), func(t *target, err error) bool { return awaits(t.object, grounds, err) })
	if err != nil {
		return nil, c.refused(ctx, err, "nothing was changed")
	}
	if err := c.writeAll(ctx, grounds, len(objects), 0); err != nil {
		return nil, err
	}
	if len(later) > 0 {
		if err := c.established(ctx, grounds, later); err != nil {
			return nil, c.refused(ctx, err, "only namespaces and custom resource definitions were applied")
		}
	}
	if err := c.writeAll(ctx, rest, len(objects), len(grounds)); err != nil {
		return nil, err
	}
	return slices.Concat(grounds, rest), nil
}

// tryAll dry-runs each target and returns those that cannot be yet, by
// deferred. It tries every one, since whoever mends the overlay wants to know
// all that is wrong with it; the error has one line for each.
func (c *cluster) tryAll(ctx context.Context, targets []*target, deferred func(*target, error) bool) (later []*target, err error) {
	var refusals []error
	for _, t := range targets {
		err := c.try(ctx, t)
		switch {
		case err == nil:
		case deferred(t, err):
			later = append(later, t)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("dry run of %s: %w", located(t.object), err)
		default:
			refusals = append(refusals, refusal(t.object, err))
		}
	}
	return later, errors.Join(refusals...)
}

// try finds out what applying t would do, and whether it is allowed.
func (c *cluster) try(ctx context.Context, t *target) error {
	return c.persist(ctx, t.object, func() (err error) {
		if t.resource, err = c.resource(t.object); err != nil {
			return err
		}
		t.before, err = t.resource.Get(ctx, t.object.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			t.before = nil
		} else if err != nil {
			return err
		}
		_, err = t.patch(ctx, metav1.DryRunAll)
		return err
	})
}

// writeAll applies targets. done of the deploy's total objects are applied.
func (c *cluster) writeAll(ctx context.Context, targets []*target, total, done int) error {
	for i, t := range targets {
		err := c.persist(ctx, t.object, func() (err error) {
			t.after, err = t.patch(ctx)
			return err
		})
		if err != nil {
			return c.refused(ctx, refusal(t.object, err), fmt.Sprintf("%d of %d objects were applied before it", done+i, total))
		}
		logf(c.log, "%s %s", called(t.object), t.change())
	}
	return nil
}

func (t *target) patch(ctx context.Context, dryRun ...string) (*unstructured.Unstructured, error) {
	body, err := t.object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return t.resource.Patch(ctx, t.object.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager:    fieldManager,
		FieldValidation: metav1.FieldValidationStrict,
		DryRun:          dryRun,
	})
}

// established waits until grounds can be built on and dry-runs what had to
// wait for that.
func (c *cluster) established(ctx context.Context, grounds, later []*target) error {
	waiting, err := c.wait(ctx, grounds)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		return fmt.Errorf("%s is not ready: %s", located(waiting[0].object), waiting[0].message)
	}
	// Discovery follows an established definition within a moment.
	patience, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var failed error
	_ = wait.PollUntilContextCancel(patience, 250*time.Millisecond, true, func(context.Context) (bool, error) {
		c.kinds.Reset()
		later, failed = c.tryAll(ctx, later, func(_ *target, err error) bool { return meta.IsNoMatchError(err) })
		return failed != nil || len(later) == 0, nil
	})
	if failed == nil && len(later) > 0 {
		gvk := later[0].object.GroupVersionKind()
		return step.BadInput(fmt.Errorf("%s: the cluster still serves no %s of %s; check the versions of its definition",
			located(later[0].object), gvk.Kind, gvk.GroupVersion()))
	}
	return failed
}

// awaits reports whether err only says that the kind or the namespace of
// object does not exist yet, and one of grounds will make it.
func awaits(object *unstructured.Unstructured, grounds []*target, err error) bool {
	gk := object.GroupVersionKind().GroupKind()
	missing := missingNamespace(err)
	for _, g := range grounds {
		if missing != "" && isNamespace(g.object) && g.object.GetName() == missing {
			return true
		}
		if isDefinition(g.object) && meta.IsNoMatchError(err) {
			group, _, _ := unstructured.NestedString(g.object.Object, "spec", "group")
			kind, _, _ := unstructured.NestedString(g.object.Object, "spec", "names", "kind")
			if group == gk.Group && kind == gk.Kind {
				return true
			}
		}
	}
	return false
}

func missingNamespace(err error) string {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return ""
	}
	if details := status.Status().Details; details != nil && details.Kind == "namespaces" {
		return details.Name
	}
	return ""
}

func isNamespace(o *unstructured.Unstructured) bool {
	return o.GetKind() == "Namespace" && o.GetAPIVersion() == "v1"
}

func isDefinition(o *unstructured.Unstructured) bool {
	return o.GetKind() == "CustomResourceDefinition" && o.GroupVersionKind().Group == "apiextensions.k8s.io"
}

// persist repeats attempt while the API server says that it may work later,
// until ctx ends. It logs the first such answer, and each different one.
func (c *cluster) persist(ctx context.Context, object *unstructured.Unstructured, attempt func() error) error {
	var last error
	delays := wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 6, Cap: 8 * time.Second}
	err := delays.DelayFunc().Until(ctx, true, true, func(context.Context) (bool, error) {
		err := attempt()
		if err == nil || !transient(err) || ctx.Err() != nil {
			return true, err
		}
		if last == nil || last.Error() != err.Error() {
			logf(c.log, "%s: trying again: %v", called(object), err)
		}
		last = err
		return false, nil
	})
	if err != nil && ctx.Err() != nil {
		if last != nil {
			return fmt.Errorf("%w; the last answer was: %w", context.Cause(ctx), last)
		}
		return context.Cause(ctx)
	}
	return err
}

// transient reports whether a request that failed with err may work later as
// it is.
func transient(err error) bool {
	return apierrors.IsConflict(err) && len(owned(err)) == 0 ||
		apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsUnexpectedServerError(err) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsTimeout(err) ||
		utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err)
}

// refusal is err, the API server's answer to applying object, as a person
// needs it: with the next step.
func refusal(object *unstructured.Unstructured, err error) error {
	name := located(object)
	kind := object.GroupVersionKind()
	switch conflicts := owned(err); {
	case len(conflicts) > 0:
		return fmt.Errorf("%s: %s; take the field out of the manifests, or hand it over once with "+
			"kubectl apply --server-side --force-conflicts --field-manager=%s", name, strings.Join(conflicts, ", "), fieldManager)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: %w; grant it to the service account of the deploy, see tasks/deploy-rbac.yaml", name, err)
	case meta.IsNoMatchError(err):
		return step.BadInput(fmt.Errorf("%s: the cluster has no kind %s in %s; install its definition or mend the apiVersion",
			name, kind.Kind, kind.GroupVersion()))
	case missingNamespace(err) != "":
		return step.BadInput(fmt.Errorf("%s: the namespace does not exist; create it, or add it to the overlay", name))
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return step.BadInput(fmt.Errorf("%s: %w; mend the manifest", name, err))
	default:
		return fmt.Errorf("%s: %w", name, err)
	}
}

// owned lists the fields that err says another manager owns.
func owned(err error) []string {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			fields = append(fields, fmt.Sprintf("field %s has a %s", cause.Field, cause.Message))
		}
	}
	return fields
}

// refused ends an error with the state that things are in.
func (c *cluster) refused(ctx context.Context, err error, state string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("stopped: %w; %s; run it again", err, state)
	}
	return fmt.Errorf("%w (%s)", err, state)
}

// change is what applying t did.
func (t *target) change() change {
	switch {
	case t.before == nil:
		return created
	case equality.Semantic.DeepEqual(content(t.before), content(t.after)):
		return unchanged
	default:
		return configured
	}
}

// content is an object without what the API server and controllers keep in it.
func content(object *unstructured.Unstructured) map[string]any {
	own := object.DeepCopy()
	own.SetManagedFields(nil)
	own.SetResourceVersion("")
	own.SetGeneration(0)
	delete(own.Object, "status")
	return own.Object
}
