package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipway-ci/slipway/internal/step"
)

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
			return t.veil().error(refusal(t, err))
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

// looks are how often an object is dry-run anew that others write meanwhile, such
// as its controller the status.
const looks = 5

// try finds out what applying t would do, and whether it is allowed. What is as
// it was applied, and will not be written, is not asked about.
func (d *deployment) try(ctx context.Context, t *target) error {
	look := func() error {
		if !t.listed || d.discreet && t.before == nil {
			if err := t.read(ctx); err != nil {
				return err
			}
		}
		t.found = t.before
		if t.withheld = d.withholds(t); t.withheld {
			return d.foreign(t)
		}
		if !d.discreet {
			d.log.hide(t.before)
		}
		if len(d.adoptFrom) == 0 && !d.mustTouch(identify(t.object)) && t.inSync() {
			t.trial = t.before
			return d.foreign(t)
		}
		return d.judgeTrial(ctx, t)
	}
	return d.persist(ctx, called(t.object), func() (err error) {
		if t.resource == nil {
			if t.resource, err = d.resource(t.object); err != nil {
				return err
			}
		}
		for range looks {
			err = look()
			// What is there, but not as one of the deploy's, was taken for new.
			if missed := t.listed && t.before == nil && apierrors.IsConflict(err); !missed && !changedMeanwhile(err) {
				return err
			}
			t.listed = false
		}
		return nil // what it is by now is looked at when it is written
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
	if t.before != nil && apierrors.IsInvalid(err) && mayRecreate(t.object) {
		if anew := d.tryAnew(ctx, t, err); anew != nil {
			return anew
		}
		t.recreate, err = true, nil
	}
	return err
}

// tryAnew finds out whether t's object, which cannot be changed for the reason
// refused, could be created once it is deleted: what else is wrong with it must
// be known before that. A dry run creates it under another name. Where the name
// belongs to what it says, or it has an address that is still taken, refused has
// to tell by itself.
func (d *deployment) tryAnew(ctx context.Context, t *target, refused error) error {
	if isBound(t.object) {
		if onlyImmutable(refused) {
			return nil
		}
		return refused
	}
	other := &target{object: t.object.DeepCopy(), resource: t.resource}
	other.object.SetName(nameOfAttempt(t.object.GetName(), d.attempt))
	_, err := other.apply(ctx, metav1.DryRunAll)
	switch {
	case apierrors.IsInvalid(err):
		return refused // it says the same, and has the object's own name
	case err != nil:
		return fmt.Errorf("it could be deleted, but not be created again: %w", err)
	}
	return nil
}

func mayRecreate(object *unstructured.Unstructured) bool {
	return object.GetAnnotations()[annotationRecreate] == "allowed"
}

// isBound reports whether no object like object can be under another name
// beside it.
func isBound(object *unstructured.Unstructured) bool {
	switch object.GroupVersionKind().GroupKind().String() {
	case "CustomResourceDefinition.apiextensions.k8s.io", "APIService.apiregistration.k8s.io":
		return true
	case "Service":
		address, _, _ := unstructured.NestedString(object.Object, "spec", "clusterIP")
		addresses, _, _ := unstructured.NestedSlice(object.Object, "spec", "clusterIPs")
		check, _, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "healthCheckNodePort")
		ports, _, _ := unstructured.NestedSlice(object.Object, "spec", "ports")
		return address != "" && address != "None" || len(addresses) > 0 || check != nil ||
			slices.ContainsFunc(ports, func(port any) bool { p, _ := port.(map[string]any); return p["nodePort"] != nil })
	}
	return false
}

// foreign refuses an object that another deploy applied. What is in the cluster
// says so: the overlay's annotations do not count, since its author could keep
// the object from being pruned and so take it from its deploy.
func (d *deployment) foreign(t *target) error {
	if t.before == nil || slices.Contains(d.adoptFrom, everyone) {
		return nil
	}
	labels := t.before.GetLabels()
	name, namespace := labels[labelName], labels[labelNamespace]
	if name == "" || name == d.name && namespace == d.namespace {
		return nil
	}
	return step.BadInput(fmt.Errorf("it belongs to the deploy %s in namespace %s; take it out of one of the two overlays, or set take-ownership-from to %s", name, namespace, everyone))
}
