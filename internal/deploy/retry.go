package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
)

// persist repeats attempt while the API server says that it may work later,
// until ctx ends; what says who asks. It logs the first such answer, and each different one.
func (c *cluster) persist(ctx context.Context, what string, attempt func() error) error {
	var last error
	delays := wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 6, Cap: 8 * time.Second}
	err := delays.DelayFunc().Until(ctx, true, true, func(context.Context) (bool, error) {
		err := attempt()
		if err == nil || !transient(err) || ctx.Err() != nil {
			return true, err
		}
		if last == nil || last.Error() != err.Error() {
			logf(c.log, "%s: trying again: %v", what, err)
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
// it is. A conflict does not: what is to be written has to be looked at again.
func transient(err error) bool {
	if isMistyped(err) {
		return false
	}
	return apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsUnexpectedServerError(err) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsTimeout(err) ||
		utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err)
}

// isMistyped reports whether err says that a field has a value of a wrong type,
// which the API server calls an internal error.
func isMistyped(err error) bool {
	return apierrors.IsInternalError(err) && strings.Contains(err.Error(), "failed to create typed patch object")
}
