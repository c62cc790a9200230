package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/slipway-ci/slipway/internal/step"
)

// An older run never overwrites a newer one. What makes that hold:
//
//  1. A run reads the inventory, then every object it may write, and then puts
//     itself into the inventory by compare and swap (claim): so nobody who had
//     finished has begun again in between. One that finds a newer place there
//     stops.
//  2. Each of its writes is conditional, in the API server: a create on that
//     the object is not there, an update or a delete on that it is still the
//     version that was read. So a write lands only on what the run saw while
//     the inventory was its own.
//  3. A run that finds the one before it unfinished (writing, paused or
//     killed) changes the version of every object of its own overlay, also of
//     those that it leaves as they are (touch). From then on no update or
//     delete of the other can land on them; a create cannot either, since they
//     are there.
//  4. When a write's condition fails, the run reads the object again, and then
//     looks whether the inventory is still its own (held), before it tries
//     again: 2. holds for every attempt.
//
//  5. A hook is a Job that is created suspended, and started by an update, on
//     the version that was read before the run saw that the inventory is its own.
//     The inventory has its name since the claim. A run that claims it changes
//     the version of every suspended hook of those before it (fence): from then
//     on none of those that are there can be started; and of one that comes
//     later, who created it finds that he was overtaken.
//
// What is left is that an overtaken run creates an object that the newer one
// does not have. It is no overwriting; the run takes it back when it finds
// itself overtaken (undo), and if it is killed before that, the inventory's
// list of what may linger has the next run prune it.

// lingerGrace is how long after its deadline an overtaken attempt is still
// expected to create something. A Tekton pod is killed at its deadline.
const lingerGrace = 10 * time.Minute

// errOvertaken is in the chain of what stops a run for a newer one.
var errOvertaken = errors.New("overtaken")

// hold is a run's hold on the inventory.
type hold struct {
	ledger
	run     inventory // what the run writes of itself: place, run, revision, overlay
	attempt string    // unique to this process
	// overrides is the event or revision that this run replaces whatever their
	// places are; "" for none.
	overrides string
	// named is set where the user gave the deploy its name: then it is on
	// purpose that another overlay takes its inventory over.
	named bool

	now    stored            // as last read or written
	prior  inventory         // what open has read and the claim replaces
	before map[identity]bool // the keys of prior's objects

	mu sync.Mutex // of now, while objects are written
}

// overtakes reports whether the run may replace what the inventory says, and
// if not, by whom it was overtaken.
func (h *hold) overtakes(prior stored) error {
	switch {
	case prior.config == nil, prior.Holder == h.attempt:
		return nil
	case h.overrides != "":
		if h.overrides == prior.Place.Event || h.overrides == prior.Revision || h.repeats(prior) {
			return nil
		}
		return fmt.Errorf("%w: this overrides %s, but %s is deployed meanwhile; look at that first", errOvertaken, h.overrides, who(prior.inventory))
	case h.run.Place.compare(prior.Place) < 0:
		return fmt.Errorf("%w: a newer run is deployed: %s; this one is %s. To go back on purpose, roll back and name what that overrides",
			errOvertaken, who(prior.inventory), h.run.Place)
	}
	return nil
}

// repeats reports whether prior is of an earlier attempt of the same run: of its
// event, or of that in a place that was found for it after another's.
func (h *hold) repeats(prior stored) bool {
	event, own := prior.Place.Event, h.run.Place.Event
	return prior.config != nil && (event == own || strings.HasSuffix(event, "+"+own))
}

func who(inv inventory) string {
	text := inv.Place.String()
	if inv.Run != "" {
		text += ", run " + inv.Run
	}
	if inv.Revision != "" {
		text += ", revision " + inv.Revision
	}
	return text
}

// open reads the inventory and stops a run that comes too late before it asks
// for anything else.
func (h *hold) open(ctx context.Context) error {
	var err error
	if h.now, err = h.read(ctx); err != nil {
		return err
	}
	h.prior, h.before = h.now.inventory, map[identity]bool{}
	for _, id := range h.prior.Objects {
		h.before[id.key()] = true
	}
	return h.admit()
}

func (h *hold) admit() error {
	prior := h.now
	if !h.named && prior.config != nil && prior.Overlay != "" && h.run.Overlay != "" && prior.Overlay != h.run.Overlay {
		return step.BadInput(fmt.Errorf("deploy %s in namespace %s is of the overlay %s: what %s does not have of it would be pruned; "+
			"give this deploy a name of its own with the param name (deploy-name of the pipelines), or that name if the overlay has moved",
			h.name, h.namespace, prior.Overlay, h.run.Overlay))
	}
	if h.run.Place.Time.IsZero() { // nobody said when: now, or as before if this is a repetition
		h.run.Place.Time = time.Now().UTC().Truncate(time.Second)
		if h.repeats(prior) {
			h.run.Place = prior.Place
		} else if prior.config != nil {
			h.run.Place = h.run.Place.after(prior.Place)
		}
	}
	if err := h.overtakes(prior); err != nil {
		return err
	}
	switch {
	case h.overrides == "":
	case h.repeats(prior):
		h.run.Place = prior.Place
	default:
		h.run.Place = h.run.Place.after(prior.Place)
	}
	return nil
}

// claim puts the run into the inventory that open has read, together with all
// that the run may write. It reports false if somebody else was faster: then
// what the run has read of the objects since is worth nothing, and it has to
// begin again with open.
func (h *hold) claim(ctx context.Context, objects []identity) (bool, error) {
	deadline, _ := ctx.Deadline()
	prior := h.prior
	next := h.run
	next.Holder, next.Writing, next.Deadline = h.attempt, true, deadline.UTC()
	next.Objects, next.History = objects, prior.History
	next.Leftovers = without(slices.Concat(prior.Leftovers, prior.Objects), objects)
	next.Lingering = slices.DeleteFunc(slices.Clone(prior.Lingering), func(l lingering) bool { return time.Now().After(l.Until) })
	if prior.Writing {
		for _, id := range slices.Concat(prior.Objects, prior.Leftovers) {
			next.Lingering = linger(next.Lingering, id, prior.Deadline.Add(lingerGrace))
		}
	}
	err := h.put(ctx, next)
	if changedMeanwhile(err) {
		return false, nil
	}
	return err == nil, err
}

func linger(list []lingering, id identity, until time.Time) []lingering {
	for i, l := range list {
		if l.Object.key() == id.key() {
			if l.Until.Before(until) {
				list[i].Until = until
			}
			return list
		}
	}
	return append(list, lingering{id, until})
}

// put writes the inventory over the one that was read, and nothing newer.
func (h *hold) put(ctx context.Context, next inventory) error {
	err := h.persist(ctx, "the inventory "+h.configMap(), func() error { return h.replace(ctx, &h.now, next) })
	if err != nil && !changedMeanwhile(err) {
		return h.explainInventory("write", err)
	}
	return err
}

// change writes what change makes of the inventory, if it is still the run's.
func (h *hold) change(ctx context.Context, change func(*inventory)) error {
	for {
		next := h.now.inventory
		change(&next)
		err := h.put(ctx, next)
		if err == nil || !changedMeanwhile(err) {
			return err
		}
		if err := h.held(ctx); err != nil {
			return err
		}
	}
}

// setWriting writes down whether the run writes, and makes sure that the
// inventory is the run's.
func (h *hold) setWriting(ctx context.Context, on bool) error {
	if h.now.Writing == on {
		return h.held(ctx)
	}
	return h.change(ctx, func(inv *inventory) { inv.Writing = on })
}

// held asks whether the inventory is still the run's.
func (h *hold) held(ctx context.Context) error {
	now, err := h.read(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.config == nil {
		return fmt.Errorf("configmap/%s in namespace %s, the deploy's inventory, was deleted meanwhile; deploy again", h.configMap(), h.namespace)
	}
	if now.Holder != h.attempt {
		h.now = now
		return fmt.Errorf("%w: a newer run took over: %s", errOvertaken, who(now.inventory))
	}
	h.now = now
	return nil
}

// mustTouch reports whether the version of an object of the overlay has to
// change even if nothing else does: because another attempt may still be about
// to write it, or to take it back.
func (h *hold) mustTouch(id identity) bool {
	return h.prior.Writing || !h.before[id.key()]
}

// changedMeanwhile reports whether a conditional write failed because the
// object is not any more what it was when it was read.
func changedMeanwhile(err error) bool {
	return apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) && !isOwnershipConflict(err)
}
