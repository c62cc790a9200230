package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-ci/slipway/internal/step"
)

// delete deletes what the inventory lists and is the deploy's, and waits until
// it is gone. The inventory stays, without objects: it keeps an older run from
// bringing them back.
func (c *config) delete(ctx, deadline context.Context, log *mask) error {
	d, err := c.open(deadline, log)
	if err != nil {
		return err
	}
	if err := d.open(deadline); err != nil {
		return d.refused(deadline, err, "nothing was changed")
	}
	if d.now.config == nil {
		return step.BadInput(fmt.Errorf("there is no deploy %s in namespace %s: configmap/%s does not exist", d.name, d.namespace, d.configMap()))
	}
	d.run.Overlay = d.now.Overlay
	d.noPrune = false
	for claimed := false; !claimed; {
		if claimed, err = d.claim(deadline, nil); err == nil && !claimed {
			err = d.open(deadline)
		}
		if err != nil {
			return d.refused(deadline, err, "nothing was changed")
		}
	}
	if err := d.fence(deadline); err != nil {
		return err
	}
	gone, err := d.leftovers(deadline)
	if err != nil {
		return err
	}
	// What was read before is read again where it changed since the claim.
	if err := d.held(deadline); err != nil {
		return err
	}
	for _, x := range slices.Backward(gone) {
		if err := d.pruneOne(deadline, x); err != nil {
			return fmt.Errorf("delete %s: %w", located(x.object), err)
		}
	}
	if waiting := d.awaitGone(deadline, gone); len(waiting) > 0 {
		x := waiting[0]
		err := fmt.Errorf("%s is still being deleted: its finalizers are %v; look at the controllers that remove them", located(x.object), x.before.GetFinalizers())
		if ctx.Err() != nil {
			err = fmt.Errorf("stopped: %w", err)
		}
		return step.NotReady(err)
	}
	err = d.change(deadline, func(inv *inventory) {
		inv.Writing, inv.Leftovers, inv.History = false, d.unknown, nil
	})
	if err != nil {
		return err
	}
	made := changes{pruned: d.prunings}
	if len(d.unknown) > 0 {
		return fmt.Errorf("%s may still be there, %d objects were deleted: the API server cannot say which kinds its group has; see what serves the group, and run it again",
			located(d.unknown[0].object()), d.prunings)
	}
	logf(log, "deploy %s in namespace %s: %d objects deleted", d.name, d.namespace, d.prunings)
	return step.WriteResult(c.Changes, made.String())
}

// awaitGone returns what is still there when ctx ends.
func (d *deployment) awaitGone(ctx context.Context, list []*doomed) []*doomed {
	_ = pollDelays.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		list = slices.DeleteFunc(list, func(x *doomed) bool {
			now, err := x.resource.Get(ctx, x.object.GetName(), metav1.GetOptions{})
			if err == nil && now.GetUID() == x.before.GetUID() {
				x.before = now
			}
			return apierrors.IsNotFound(err) || err == nil && now.GetUID() != x.before.GetUID()
		})
		return len(list) == 0, nil
	})
	return list
}

// rollback applies what an earlier deploy applied: its overlay with its images,
// rendered again from the source at its revision. It overrides the run that is
// deployed by its name, so that it is refused if another was faster.
func (c *config) rollback(ctx, deadline context.Context, log *mask) error {
	d, err := c.open(deadline, log)
	if err != nil {
		return err
	}
	if d.now, err = d.read(deadline); err != nil {
		return err
	}
	if d.now.config == nil {
		return step.BadInput(fmt.Errorf("there is no deploy %s in namespace %s to roll back: configmap/%s does not exist", d.name, d.namespace, d.configMap()))
	}
	wish := c.RollbackTo
	if wish == "" && d.repeats(d.now) {
		wish = d.now.Revision // this run has begun it before
	}
	to, err := earlier(d.now.inventory, wish)
	if err != nil {
		return step.BadInput(fmt.Errorf("deploy %s in namespace %s: %w", d.name, d.namespace, err))
	}
	if to.Revision != "" && c.Revision != "" && to.Revision != c.Revision {
		return step.BadInput(fmt.Errorf("the source is at revision %s, %s was deployed from %s; fetch that revision", c.Revision, to.Place, to.Revision))
	}
	if d.overrides == "" {
		d.overrides = d.now.Place.Event
	}
	if d.run.Place.Time.IsZero() {
		d.run.Place.Time = time.Now().UTC().Truncate(time.Second)
	}
	c.Overlay, c.Revision, c.images, c.imageFields = to.Overlay, to.Revision, to.Images, to.ImageFields
	d.run.Overlay, d.run.Revision, d.named = to.Overlay, to.Revision, true
	r, err := c.render(deadline, log)
	if err != nil {
		return err
	}
	logf(log, "roll back to %s, revision %s, from %s", to.Place, to.Revision, who(d.now.inventory))
	if err := d.open(deadline); err != nil {
		return d.refused(deadline, err, "nothing was changed")
	}
	return c.roll(ctx, deadline, d, r)
}

// earlier is the deploy to go back to: the one that wish names by its event or
// revision, or the last that became ready before the present one.
func earlier(inv inventory, wish string) (entry, error) {
	var known []string
	for _, e := range inv.History {
		switch {
		case wish != "" && (e.Place.Event == wish || e.Revision == wish):
			return e, nil
		case wish == "" && e.Place != inv.Place:
			return e, nil
		}
		known = append(known, fmt.Sprintf("%s (revision %s)", e.Place, e.Revision))
	}
	if wish == "" {
		return entry{}, fmt.Errorf("nothing was deployed before %s", inv.Place)
	}
	return entry{}, fmt.Errorf("%s is none of what became ready: %v", wish, known)
}
