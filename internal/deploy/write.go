package deploy

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

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
