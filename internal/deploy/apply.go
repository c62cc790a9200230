package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/slipway-ci/slipway/internal/step"
)

// inFlight is how many requests a deploy has under way at a time.
const inFlight = 8

// deployment is one run's work on a cluster.
type deployment struct {
	*hold
	adoptFrom []string // managers whose fields the deploy takes over
	noPrune   bool
	tolerated []string // called names of objects that may fail

	total, written atomic.Int32 // objects of the overlay, and those applied so far
	prunings       int
}

// apply applies objects server-side, in their order, and logs what became of
// each. All of them are dry-run first, so that an object that the API server
// refuses stops the deploy before anything is changed. The one exception are
// objects whose kind or namespace is itself among objects and not there yet:
// those are dry-run as soon as it is.
//
// The hooks before run once everything that workloads need is there, and
// before the first of them is applied.
func (d *deployment) apply(ctx context.Context, objects []*unstructured.Unstructured, h hooks) ([]*target, error) {
	targets := d.targets(objects)
	var grounds, rest []*target // grounds: what other objects need to exist at all
	for _, t := range targets {
		if isNamespace(t.object) || isDefinition(t.object) || isClusterRole(t.object) {
			grounds = append(grounds, t)
		} else {
			rest = append(rest, t)
		}
	}
	targets = slices.Concat(grounds, rest)
	for _, t := range h.all() {
		d.own(t.object)
	}
	var later []*target
	for claimed := false; !claimed; {
		var err error
		if later, err = d.prepare(ctx, grounds, slices.Concat(targets, h.all())); err == nil {
			claimed, err = d.claim(ctx, identities(slices.Concat(targets, h.all())))
		}
		if err == nil && !claimed {
			err = d.open(ctx)
		}
		if err != nil {
			return nil, d.refused(ctx, err, "nothing was changed")
		}
	}
	if err := d.writeStages(ctx, grounds, rest, later, h); err != nil {
		return nil, d.stop(ctx, err, targets)
	}
	if err := d.change(ctx, func(inv *inventory) { inv.Writing = false }); err != nil {
		return nil, d.stop(ctx, err, targets)
	}
	return targets, nil
}

// prepare finds out whether all of targets may be applied, and what that would
// do. It returns those that cannot be known yet.
func (d *deployment) prepare(ctx context.Context, grounds, targets []*target) ([]*target, error) {
	later, err := d.tryAll(ctx, targets, func(t *target, err error) bool { return awaits(t.object, grounds, err) })
	if err != nil {
		return nil, err
	}
	if err := checkAgainst(grounds, later); err != nil {
		return nil, err
	}
	return later, d.makeRoom(ctx, grounds)
}

func (d *deployment) writeStages(ctx context.Context, grounds, rest, later []*target, h hooks) error {
	if err := d.writeAll(ctx, grounds); err != nil {
		return err
	}
	if len(later) > 0 {
		if err := d.established(ctx, grounds, later); err != nil {
			return d.refused(ctx, err, "only namespaces, custom resource definitions and cluster roles were applied")
		}
		// What could only be read now was read after the claim.
		if err := d.held(ctx); err != nil {
			return err
		}
	}
	works := slices.IndexFunc(rest, func(t *target) bool { return isWorkload(t.object) })
	if works < 0 {
		works = len(rest)
	}
	if err := d.writeAll(ctx, rest[:works]); err != nil {
		return err
	}
	if err := d.runHooks(ctx, h, before); err != nil {
		return err
	}
	return d.writeAll(ctx, rest[works:])
}

// stop ends a deploy that could not write all it wanted to. The inventory
// still says that it writes: so the next one takes nothing for granted.
func (d *deployment) stop(ctx context.Context, err error, targets []*target) error {
	var waits *unready
	switch {
	case errors.Is(err, errOvertaken):
		d.undo(ctx, targets)
	case errors.As(err, &waits):
		return err // a hook failed
	}
	return d.refused(ctx, err, fmt.Sprintf("%d of %d objects were applied before it", d.written.Load(), d.total.Load()))
}

func (d *deployment) targets(objects []*unstructured.Unstructured) []*target {
	d.total.Store(int32(len(objects)))
	var targets []*target
	for _, object := range objects {
		d.own(object)
		targets = append(targets, &target{object: object})
	}
	return targets
}

// own labels object as the deploy's, if it may ever prune it. What it may not,
// such as a namespace, several deploys may have in their overlays.
func (d *deployment) own(object *unstructured.Unstructured) {
	if !prunable(object) {
		return
	}
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelName], labels[labelNamespace] = d.name, d.namespace
	object.SetLabels(labels)
}

func identities(targets []*target) []identity {
	var ids []identity
	for _, t := range targets {
		ids = append(ids, identify(t.object))
	}
	return ids
}

// each calls do for all of list, some at a time, and returns its errors in the
// list's order. After the first error none is begun where stop is set.
func each[T any](list []T, stop bool, do func(T) error) error {
	var (
		group  sync.WaitGroup
		failed atomic.Bool
		errs   = make([]error, len(list))
		slots  = make(chan struct{}, inFlight)
	)
	for i, item := range list {
		slots <- struct{}{}
		if stop && failed.Load() {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			if errs[i] = do(item); errs[i] != nil {
				failed.Store(true)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// tryAll dry-runs each target and returns those that cannot be yet, by
// deferred. It tries every one, since whoever mends the overlay wants to know
// all that is wrong with it; the error has one line for each.
func (d *deployment) tryAll(ctx context.Context, targets []*target, deferred func(*target, error) bool) (later []*target, err error) {
	d.survey(ctx, targets)
	postponed := make(map[*target]bool)
	var mu sync.Mutex
	err = each(targets, false, func(t *target) error {
		err := d.try(ctx, t)
		switch {
		case err == nil:
			return nil
		case deferred(t, err):
			mu.Lock()
			defer mu.Unlock()
			postponed[t] = true
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("dry run of %s: %w", located(t.object), err)
		default:
			return refusal(t, err)
		}
	})
	if err != nil && ctx.Err() != nil {
		return nil, firstOf(err)
	}
	for _, t := range targets {
		if postponed[t] {
			later = append(later, t)
		}
	}
	return later, err
}

// firstOf is the first of joined errors: they all say that the time is over.
func firstOf(err error) error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()[0]
	}
	return err
}

// try finds out what applying t would do, and whether it is allowed.
func (d *deployment) try(ctx context.Context, t *target) error {
	look := func() error {
		if !t.listed {
			if err := t.read(ctx); err != nil {
				return err
			}
		}
		t.found = t.before
		d.log.hide(t.before)
		return d.judgeTrial(ctx, t)
	}
	return d.persist(ctx, called(t.object), func() (err error) {
		if t.resource == nil {
			if t.resource, err = d.resource(t.object); err != nil {
				return err
			}
		}
		err = look()
		if t.listed && t.before == nil && apierrors.IsConflict(err) {
			t.listed = false // it is there, but not as one of the deploy's
			err = look()
		}
		if changedMeanwhile(err) {
			return nil // what it is by now is looked at when it is written
		}
		return err
	})
}

// judgeTrial dry-runs t on what was read.
func (d *deployment) judgeTrial(ctx context.Context, t *target) (err error) {
	if err := d.foreign(t); err != nil {
		return err
	}
	t.force, t.recreate = false, false
	t.trial, err = t.apply(ctx, metav1.DryRunAll)
	switch {
	case mayTake(err, d.adoptFrom):
		t.force = true
		t.trial, err = t.apply(ctx, metav1.DryRunAll)
	case apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "does not support dry run"):
		logf(d.log, "%s cannot be tried before it is applied: %v", called(t.object), err)
		t.trial, err = nil, nil
	}
	if t.before != nil && isImmutable(err) && t.object.GetAnnotations()[annotationRecreate] == "allowed" {
		t.recreate, err = true, nil
	}
	return err
}

// foreign refuses an object that another deploy applied.
func (d *deployment) foreign(t *target) error {
	if t.before == nil || !prunable(t.object) || slices.Contains(d.adoptFrom, everyone) {
		return nil
	}
	labels := t.before.GetLabels()
	name, namespace := labels[labelName], labels[labelNamespace]
	if name == "" || name == d.name && namespace == d.namespace {
		return nil
	}
	return step.BadInput(fmt.Errorf("it belongs to the deploy %s in namespace %s; take it out of one of the two overlays, or set take-ownership-from to %s", name, namespace, everyone))
}

// writeAll applies targets, those of one kind at the same time.
func (d *deployment) writeAll(ctx context.Context, targets []*target) error {
	for len(targets) > 0 {
		n := 1
		for n < len(targets) && targets[n].object.GroupVersionKind() == targets[0].object.GroupVersionKind() {
			n++
		}
		err := each(targets[:n], true, func(t *target) error {
			if err := d.write(ctx, t); err != nil {
				return refusal(t, err)
			}
			d.written.Add(1)
			return nil
		})
		for _, t := range targets[:n] {
			if t.after != nil {
				logf(d.log, "%s %s", called(t.object), t.change())
			}
		}
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, errOvertaken) {
				err = firstOf(err)
			}
			return err
		}
		targets = targets[n:]
	}
	return nil
}

// write brings t's object to what was rendered. Each write is conditional on
// what was read before the inventory was last known to be the run's.
func (d *deployment) write(ctx context.Context, t *target) error {
	delays := wait.Backoff{Duration: 10 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8, Cap: 2 * time.Second}
	for {
		err := d.persist(ctx, called(t.object), func() error { return d.writeOnce(ctx, t) })
		gone := t.before != nil && apierrors.IsNotFound(err) && missingNamespace(err) == ""
		if !changedMeanwhile(err) && !gone {
			return err
		}
		if err := d.persist(ctx, called(t.object), func() error { return t.read(ctx) }); err != nil {
			return err
		}
		if err := d.held(ctx); err != nil {
			return err
		}
		if err := d.persist(ctx, called(t.object), func() error { return d.judgeTrial(ctx, t) }); err != nil && !changedMeanwhile(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delays.Step()):
		}
	}
}

func (d *deployment) writeOnce(ctx context.Context, t *target) (err error) {
	switch {
	case t.recreate:
		return d.recreate(ctx, t)
	case t.before != nil && len(d.adoptFrom) > 0:
		if err := t.adopt(ctx, d.adoptFrom); err != nil {
			return err
		}
		t.after, err = t.apply(ctx)
	case t.unchanged() && d.mustTouch(identify(t.object)):
		t.after, err = t.touch(ctx, d.attempt)
	case t.unchanged():
		t.after = t.before
	default:
		t.after, err = t.apply(ctx)
	}
	return err
}

// recreate deletes t's object and creates it again.
func (d *deployment) recreate(ctx context.Context, t *target) error {
	logf(d.log, "%s: a field of it is immutable: it is deleted and created again", called(t.object))
	if err := remove(ctx, t.resource, t.before); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	uid := t.before.GetUID()
	err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := t.read(ctx); err != nil && !transient(err) {
			return false, err
		}
		return t.before == nil || t.before.GetUID() != uid, nil
	})
	if err != nil {
		return err
	}
	if err := d.held(ctx); err != nil {
		return err
	}
	t.recreate = false
	t.after, err = t.apply(ctx)
	return err
}

// undo takes back what an overtaken run has created and the newer one does not
// have. It does its best: what it cannot do, a later run's pruning does.
func (d *deployment) undo(ctx context.Context, targets []*target) {
	for _, t := range targets {
		if t.found != nil || t.after == nil || !prunable(t.object) {
			continue
		}
		for range 5 {
			// The object first and then who holds the inventory: a run that takes
			// the object over in between touches it, and this conflicts.
			if err := t.read(ctx); err != nil || t.before == nil || t.before.GetUID() != t.after.GetUID() {
				break
			}
			now, err := d.read(ctx)
			if err != nil || contained(identify(t.object), now.Objects) {
				break
			}
			if err := remove(ctx, t.resource, t.before); err == nil {
				logf(d.log, "%s taken back", called(t.object))
				break
			}
		}
	}
}

// makeRoom creates the namespace that holds the inventory, where the overlay
// brings it along. It has nothing but its name yet: what the overlay says of it
// is applied once the run has its place in the order.
func (d *deployment) makeRoom(ctx context.Context, grounds []*target) error {
	for _, t := range grounds {
		if !isNamespace(t.object) || t.object.GetName() != d.namespace || t.before != nil {
			continue
		}
		bare := identify(t.object).object()
		bare.SetResourceVersion(onlyCreate)
		body, err := bare.MarshalJSON()
		if err != nil {
			return err
		}
		err = d.persist(ctx, called(t.object), func() error {
			now, err := t.resource.Patch(ctx, t.object.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: fieldManager})
			if changedMeanwhile(err) { // another run was faster
				return t.read(ctx)
			}
			t.before = now
			return err
		})
		if err != nil {
			return refusal(t, err)
		}
		t.trial = nil
	}
	return nil
}

// established waits until grounds can be built on and dry-runs what had to
// wait for that.
func (d *deployment) established(ctx context.Context, grounds, later []*target) error {
	if err := d.await(ctx, grounds); err != nil {
		return fmt.Errorf("%w", errors.New(err.Error())) // what is not ready here was not deployed yet
	}
	// Discovery follows an established definition within a moment.
	patience, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var failed error
	_ = wait.PollUntilContextCancel(patience, 250*time.Millisecond, true, func(context.Context) (bool, error) {
		d.kinds.Reset()
		later, failed = d.tryAll(ctx, later, func(_ *target, err error) bool { return meta.IsNoMatchError(err) })
		return failed != nil || len(later) == 0, nil
	})
	if failed == nil && len(later) > 0 {
		gvk := later[0].object.GroupVersionKind()
		return step.BadInput(fmt.Errorf("%s: the cluster still serves no %s of %s; check the versions of its definition",
			located(later[0].object), gvk.Kind, gvk.GroupVersion()))
	}
	return failed
}

// isWorkload reports whether an object runs something, or is of a kind that
// only its controller knows.
func isWorkload(o *unstructured.Unstructured) bool {
	switch o.GroupVersionKind().Group {
	case "", "rbac.authorization.k8s.io", "policy", "networking.k8s.io", "storage.k8s.io", "scheduling.k8s.io":
		return o.GetKind() == "Pod" || o.GetKind() == "ReplicationController"
	}
	return true
}
