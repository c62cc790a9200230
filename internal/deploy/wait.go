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

// pollInterval is how often the objects that are not ready are read. Reading
// needs no more rights than applying does; watching would.
const pollInterval = time.Second

// pending is an object that is not ready.
type pending struct {
	*target
	message string
	failed  bool // it will not become ready by waiting
}

// wait follows applied until all are ready, one has failed, or ctx ends, and
// returns those that are not ready; one that has failed comes first. It logs
// each change of an object's status.
func (c *cluster) wait(ctx context.Context, applied []*target) ([]pending, error) {
	var left []pending
	for _, t := range applied {
		left = append(left, pending{target: t})
	}
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(context.Context) (bool, error) {
		var still []pending
		for i, p := range left {
			now, ready, err := c.look(ctx, p.target)
			if ctx.Err() != nil {
				left = append(still, left[i:]...)
				return false, nil
			} else if err != nil {
				return false, err
			}
			switch {
			case ready && p.message != "":
				logf(c.log, "%s: ready", called(p.object))
			case !ready && now.message != p.message:
				logf(c.log, "%s: %s", called(p.object), now.message)
			}
			switch {
			case now.failed:
				still = append([]pending{now}, still...)
			case !ready:
				still = append(still, now)
			}
		}
		left = still
		return len(left) == 0 || left[0].failed, nil
	})
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	return left, nil
}

// look reads t's object and judges it. An answer that may be another one later
// leaves it pending.
func (c *cluster) look(ctx context.Context, t *target) (p pending, ready bool, err error) {
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
	t.after = now
	result, err := judge(now)
	if err != nil {
		return p, false, fmt.Errorf("read the status of %s: %w", located(t.object), err)
	}
	p.message, p.failed = result.Message, result.Status == status.FailedStatus
	if conditions := result.Conditions; p.failed && len(conditions) > 0 && conditions[0].Message != "" {
		p.message = conditions[0].Message
	}
	return p, result.Status == status.CurrentStatus, nil
}

// judge is kstatus's judgement, but for a Job: kstatus is content with one that
// has started, while a deploy wants its migrations done. One that is suspended
// is as ready as it was meant to be.
func judge(object *unstructured.Unstructured) (*status.Result, error) {
	result, err := status.Compute(object)
	if err != nil || object.GroupVersionKind().GroupKind().String() != "Job.batch" || result.Status == status.FailedStatus {
		return result, err
	}
	with, err := status.GetObjectWithConditions(object.Object)
	if err != nil {
		return nil, err
	}
	complete := slices.ContainsFunc(with.Status.Conditions, func(c status.BasicCondition) bool {
		return c.Type == "Complete" && c.Status == corev1.ConditionTrue
	})
	suspended, _, err := unstructured.NestedBool(object.Object, "spec", "suspend")
	if err != nil {
		return nil, err
	}
	if result.Status = status.InProgressStatus; complete || suspended {
		result.Status = status.CurrentStatus
	}
	return result, nil
}
