package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
)

// pollDelays are how often the objects that are not ready are read: often at
// first, as a small app is up within a second or two, and then each second.
// Reading needs no more rights than applying does; watching would.
var pollDelays = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 1.2, Cap: time.Second, Steps: 100}

// askInterval is how often a run that waits asks whether a newer one has taken
// over, and what keeps the pods.
const askInterval = 5 * time.Second

// pending is an object that is not ready.
type pending struct {
	*target
	message string
	failed  bool // it will not become ready by waiting
}

// await waits until all of applied are ready. Its error is an *unready if they
// are not by the end of ctx, or one has failed.
func (d *deployment) await(ctx context.Context, applied []*target) error {
	begun := time.Now()
	waiting, err := d.wait(ctx, applied)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		return &unready{applied, waiting, time.Since(begun)}
	}
	waited, ready := time.Since(begun).Round(time.Second), len(applied)
	for _, t := range applied {
		if notReady(t) {
			ready--
		}
	}
	if ready < len(applied) {
		logf(d.log, "%d of %d objects are ready after %s; the others are tolerated, or not waited for", ready, len(applied), waited)
		return nil
	}
	logf(d.log, "all %d objects are ready after %s", ready, waited)
	return nil
}

// wait follows applied until all are ready, one has failed, or ctx ends, and
// returns those that are not ready; one that has failed comes first. It logs
// each change of an object's status. What is tolerated to fail is waited for
// as well, but does not count once it has failed or ctx has ended.
func (d *deployment) wait(ctx context.Context, applied []*target) ([]pending, error) {
	var left []pending
	for _, t := range applied {
		if t.object.GetAnnotations()[annotationWait] == "none" {
			continue
		}
		// What the API server answered when it was written may be all there is to
		// know: most kinds have no status.
		now, ready, err := d.look(t, t.after)
		if err != nil {
			return nil, err
		}
		if !ready {
			logf(d.log, "%s: %s", called(t.object), now.message)
			left = append(left, now)
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	asked, told := time.Now(), map[string]bool{}
	err := pollDelays.DelayFunc().Until(ctx, false, true, func(ctx context.Context) (bool, error) {
		if time.Since(asked) >= askInterval {
			if err := d.held(ctx); err != nil {
				return false, err
			}
			d.hint(ctx, left, told)
			asked = time.Now()
		}
		still, err := d.poll(ctx, left)
		if ctx.Err() != nil {
			return false, nil
		} else if err != nil {
			return false, err
		}
		left = still
		return len(left) == 0 || left[0].failed, nil
	})
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	return slices.DeleteFunc(left, func(p pending) bool {
		if !d.tolerates(p.target) {
			return false
		}
		logf(d.log, "%s is not ready, which is tolerated: %s", called(p.object), p.message)
		return true
	}), nil
}

// notReady reports whether t is not ready, as it was last seen: at the latest
// when it was written.
func notReady(t *target) bool {
	result, err := judge(t.after)
	return err != nil || result.Status != status.CurrentStatus
}

// poll reads what is left once.
func (d *deployment) poll(ctx context.Context, left []pending) (still []pending, err error) {
	looks := make([]*pending, len(left)) // nil for what is ready
	err = each(indices(left), true, func(i int) error {
		p, ready, err := d.ask(ctx, left[i].target)
		if err == nil && !ready {
			looks[i] = &p
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, p := range looks {
		switch {
		case p == nil:
			logf(d.log, "%s: ready", called(left[i].object))
		case p.message != left[i].message:
			logf(d.log, "%s: %s", called(p.object), p.message)
		}
		switch {
		case p == nil:
		case p.failed && d.tolerates(p.target):
			logf(d.log, "%s has failed, which is tolerated", called(p.object))
		case p.failed:
			still = slices.Insert(still, 0, *p)
		default:
			still = append(still, *p)
		}
	}
	return still, nil
}

func (d *deployment) tolerates(t *target) bool {
	return t.object.GetAnnotations()[annotationWait] == "tolerated" || slices.Contains(d.tolerated, called(t.object))
}

// ask reads t's object and judges it. An answer that may be another one later
// leaves it pending.
func (d *deployment) ask(ctx context.Context, t *target) (p pending, ready bool, err error) {
	p = pending{target: t}
	now, err := t.resource.Get(ctx, t.object.GetName(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		p.message, p.failed = "someone deleted it while its rollout was waited for", true
		return p, false, nil
	case err != nil && transient(err):
		p.message = err.Error()
		return p, false, nil
	case err != nil:
		return p, false, fmt.Errorf("read the status of %s: %w", located(t.object), err)
	}
	return d.look(t, now)
}

// look judges t's object as it is now.
func (d *deployment) look(t *target, now *unstructured.Unstructured) (p pending, ready bool, err error) {
	p, t.after = pending{target: t}, now
	result, err := judge(now)
	if err != nil {
		return p, false, fmt.Errorf("read the status of %s: %w", located(t.object), err)
	}
	p.message, p.failed = result.Message, result.Status == status.FailedStatus
	if conditions := result.Conditions; p.failed && len(conditions) > 0 && conditions[0].Message != "" {
		p.message = conditions[0].Message
	}
	if p.failed && isJob(now) {
		if why := failedBecause(now); why != "" {
			p.message = why
		}
	}
	return p, result.Status == status.CurrentStatus, nil
}

// judge is kstatus's judgement, but for a Job: kstatus is content with one that
// has started, while a deploy wants its migrations done. One that is suspended
// is as ready as it was meant to be.
func judge(object *unstructured.Unstructured) (*status.Result, error) {
	result, err := status.Compute(object)
	if err != nil || !isJob(object) || result.Status == status.FailedStatus {
		return result, err
	}
	with, err := status.GetObjectWithConditions(object.Object)
	if err != nil {
		return nil, err
	}
	complete := slices.ContainsFunc(with.Status.Conditions, func(c status.BasicCondition) bool {
		return c.Type == "Complete" && c.Status == corev1.ConditionTrue
	})
	if result.Status = status.InProgressStatus; complete || isSuspended(object) {
		result.Status = status.CurrentStatus
	}
	return result, nil
}

func isJob(object *unstructured.Unstructured) bool {
	return object.GroupVersionKind().GroupKind().String() == "Job.batch"
}

// failedBecause is what a Job's controller says of its failure; kstatus only
// counts pods.
func failedBecause(job *unstructured.Unstructured) string {
	with, err := status.GetObjectWithConditions(job.Object)
	if err != nil {
		return ""
	}
	for _, condition := range with.Status.Conditions {
		if condition.Type == "Failed" && condition.Status == corev1.ConditionTrue {
			return condition.Message
		}
	}
	return ""
}
