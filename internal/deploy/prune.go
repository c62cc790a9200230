package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// prunable reports whether an object may be pruned at all: what loses data, or
// takes others' objects along, only where an annotation of it allows that.
func prunable(object *unstructured.Unstructured) bool {
	switch object.GetAnnotations()[annotationPrune] {
	case "disabled":
		return false
	case "allowed":
		return true
	}
	switch object.GroupVersionKind().Group + "/" + object.GetKind() {
	case "/Namespace", "/PersistentVolume", "/PersistentVolumeClaim", "apiextensions.k8s.io/CustomResourceDefinition":
		return false
	}
	return true
}

// ours reports whether an object is the deploy's to delete, and if not, why.
func (d *deployment) ours(object *unstructured.Unstructured) (bool, string) {
	labels := object.GetLabels()
	switch {
	case object.GetDeletionTimestamp() != nil:
		return false, "it is being deleted"
	case !prunable(object):
		return false, "its kind or its annotation " + annotationPrune + " keeps it"
	case labels[labelName] != d.name || labels[labelNamespace] != d.namespace:
		return false, "its labels do not say that it belongs to this deploy"
	case !slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == fieldManager && entry.Operation == metav1.ManagedFieldsOperationApply
	}):
		return false, fmt.Sprintf("no field of it is managed by %s", fieldManager)
	}
	return true, ""
}

// doomed is an object that left the overlay, as it was read.
type doomed struct {
	id identity
	target
}

// prune deletes what left the overlay and is still the deploy's. It goes by
// the inventory alone: where that was lost, there is nothing to prune.
func (d *deployment) prune(ctx context.Context) error {
	gone, err := d.leftovers(ctx)
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		if err := d.setWriting(ctx, true); err != nil {
			return err
		}
		for _, x := range slices.Backward(gone) { // what was applied last goes first
			if err := d.pruneOne(ctx, x); err != nil {
				return fmt.Errorf("prune %s: %w", located(x.object), err)
			}
		}
	}
	return nil
}

// leftovers reads what left the overlay and says what is kept of it. What it
// cannot find out is in d.unknown.
func (d *deployment) leftovers(ctx context.Context) ([]*doomed, error) {
	ids := slices.Clone(d.now.Leftovers)
	for _, l := range d.now.Lingering {
		ids = append(ids, l.Object)
	}
	var gone []*doomed
	d.unknown = nil
	for _, id := range without(ids, d.now.Objects) {
		x := &doomed{id: id, target: target{object: id.object()}}
		err := d.persist(ctx, called(x.object), func() (err error) {
			if x.resource, err = d.anyResource(x.object); err != nil {
				return err
			}
			return x.read(ctx)
		})
		if meta.IsNoMatchError(err) {
			if why := d.undiscovered(x.object.GroupVersionKind().Group); why != nil {
				logf(d.log, "%s left the overlay, and whether it is there is not known: %v", called(x.object), why)
				d.unknown = append(d.unknown, id)
			}
			continue // or its kind is gone, and it with it
		}
		if err != nil {
			return nil, fmt.Errorf("read %s, which left the overlay: %w", located(x.object), d.grant(err))
		}
		if x.before == nil {
			continue
		}
		switch ours, why := d.ours(x.before); {
		case !ours && contained(id, d.now.Leftovers):
			logf(d.log, "%s left the overlay and is kept: %s", called(x.object), why)
		case ours && d.noPrune:
			logf(d.log, "%s left the overlay and is kept: the param prune says so", called(x.object))
		case ours:
			gone = append(gone, x)
		}
	}
	return gone, nil
}

func (d *deployment) pruneOne(ctx context.Context, x *doomed) error {
	for {
		err := d.persist(ctx, called(x.object), func() error { return remove(ctx, x.resource, x.before) })
		if err == nil || apierrors.IsNotFound(err) {
			d.prunings++
			logf(d.log, "%s pruned", called(x.object))
			return nil
		}
		if !changedMeanwhile(err) {
			return d.grant(err)
		}
		if err := d.persist(ctx, called(x.object), func() error { return x.read(ctx) }); err != nil {
			return err
		}
		if err := d.held(ctx); err != nil {
			return err
		}
		if x.before == nil {
			return nil
		}
		if ours, why := d.ours(x.before); !ours {
			logf(d.log, "%s left the overlay and is kept: %s", called(x.object), why)
			return nil
		}
	}
}

func (d *deployment) grant(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w; %s", err, remedy(err.Error()))
	}
	return err
}

// settle writes down that the overlay is what the cluster has, and nothing
// else of the deploy's.
func (d *deployment) settle(ctx context.Context, done entry) error {
	return d.change(ctx, func(inv *inventory) {
		inv.Writing = false
		if !d.noPrune {
			inv.Leftovers = d.unknown
		}
		inv.Lingering = slices.DeleteFunc(slices.Clone(inv.Lingering), func(l lingering) bool { return time.Now().After(l.Until) })
		// What is deployed again is no second entry.
		inv.History = slices.DeleteFunc(slices.Clone(inv.History), func(e entry) bool {
			return e.Revision == done.Revision && e.Overlay == done.Overlay && slices.Equal(e.Images, done.Images) && slices.Equal(e.ImageFields, done.ImageFields)
		})
		inv.History = slices.Insert(inv.History, 0, done)
		inv.History = inv.History[:min(len(inv.History), historyLength)]
	})
}
