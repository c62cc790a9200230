package deploy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	discreet  bool     // a diff, which whoever wrote the overlay reads: see withholds
	tolerated []string // called names of objects that may fail

	total, written atomic.Int32 // objects of the overlay, and those applied so far
	prunings       int
	unknown        []identity // what left the overlay, and may be there or not
}

// apply applies objects server-side, in their order, and logs what became of
// each. All that are not in sync are dry-run first, so that an object that the
// API server refuses stops the deploy before anything is changed. The one
// exception are objects whose kind or namespace is itself among objects and not
// there yet: those are dry-run as soon as it is.
//
// The hooks before run once everything that workloads need is there, and
// before the first of them is applied.
func (d *deployment) apply(ctx context.Context, objects []*unstructured.Unstructured, h hooks) ([]*target, error) {
	grounds, settings, works := byStage(d.targets(objects, h))
	targets := slices.Concat(grounds, settings, works)
	var later []*target
	for claimed := false; !claimed; {
		var err error
		if later, err = d.check(ctx, grounds, slices.Concat(targets, h.all())); err == nil {
			err = d.makeRoom(ctx, grounds)
		}
		if err == nil {
			claimed, err = d.claim(ctx, identities(slices.Concat(targets, h.all())))
		}
		if err == nil && !claimed {
			err = d.open(ctx)
		}
		if err != nil {
			return nil, d.refused(ctx, err, "nothing was changed")
		}
	}
	err := d.fence(ctx)
	if err == nil {
		err = d.writeStages(ctx, grounds, settings, works, later, h)
	}
	// Whoever comes while this run waits shall not take it for one that writes.
	// Where there is nothing to wait for, settle says so at once.
	if err == nil && (len(h[after])+len(h[verify]) > 0 || slices.ContainsFunc(targets, notReady)) {
		err = d.setWriting(ctx, false)
	}
	if err != nil {
		return nil, d.stop(ctx, err, slices.Concat(targets, h.all()))
	}
	return targets, nil
}

// byStage are targets by when they are applied, in their order: what others need
// to exist at all, then what workloads need, then the workloads. Each overlay has
// its own order, so one of several may begin anew with the first of them.
func byStage(targets []*target) (grounds, settings, works []*target) {
	for _, t := range targets {
		switch {
		case isNamespace(t.object), isDefinition(t.object), isClusterRole(t.object):
			grounds = append(grounds, t)
		case isWorkload(t.object):
			works = append(works, t)
		default:
			settings = append(settings, t)
		}
	}
	return grounds, settings, works
}

// check finds out whether all of targets may be applied, and what that would
// do. It returns those that cannot be known yet.
func (d *deployment) check(ctx context.Context, grounds, targets []*target) ([]*target, error) {
	later, err := d.tryAll(ctx, targets, func(t *target, err error) bool { return awaits(t.object, grounds, err) })
	if err != nil {
		return nil, err
	}
	return later, checkAgainst(grounds, later)
}

func (d *deployment) writeStages(ctx context.Context, grounds, settings, works, later []*target, h hooks) error {
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
	if err := d.writeAll(ctx, settings); err != nil {
		return err
	}
	if err := d.runHooks(ctx, h, before); err != nil {
		return err
	}
	return d.writeAll(ctx, works)
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

// targets are what is to become of objects. They are made the deploy's, and the
// hooks are.
func (d *deployment) targets(objects []*unstructured.Unstructured, h hooks) []*target {
	for _, t := range h.all() {
		d.own(t.object)
	}
	d.total.Store(int32(len(objects)))
	var targets []*target
	for _, object := range objects {
		d.own(object)
		encodeStringData(object)
		targets = append(targets, &target{object: object})
	}
	return targets
}

// own labels object as the deploy's, if it may ever prune it. What it may not,
// such as a namespace, several deploys may have in their overlays: then it has no
// such label, not even one that its manifest brings along. Whose an object is is
// not for its author to say, and a manifest that was read from a cluster says it.
func (d *deployment) own(object *unstructured.Unstructured) {
	if !prunable(object) {
		for _, label := range []string{labelName, labelNamespace} {
			unstructured.RemoveNestedField(object.Object, "metadata", "labels", label)
		}
		return
	}
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelName], labels[labelNamespace] = d.name, d.namespace
	object.SetLabels(labels)
}

// encodeStringData makes a Secret's stringData data, as the API server does. That
// keeps who owns a key of data, but not of stringData: one that left it would
// stay in the cluster.
func encodeStringData(object *unstructured.Unstructured) {
	if !isSecret(object) {
		return
	}
	plain, found, err := unstructured.NestedStringMap(object.Object, "stringData")
	data, _, dataErr := unstructured.NestedMap(object.Object, "data")
	if !found || err != nil || dataErr != nil {
		return // what is no text, the API server refuses
	}
	if data == nil {
		data = map[string]any{}
	}
	for key, value := range plain {
		data[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	object.Object["data"] = data
	delete(object.Object, "stringData")
}

func identities(targets []*target) []identity {
	var ids []identity
	for _, t := range targets {
		ids = append(ids, identify(t.object))
	}
	return ids
}

// indices are those of a list, for [each].
func indices[T any](list []T) []int {
	all := make([]int, len(list))
	for i := range all {
		all[i] = i
	}
	return all
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
