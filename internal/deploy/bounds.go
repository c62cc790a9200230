package deploy

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"time"
)

// What rendering may take. Real overlays stay a hundred times below; an input
// that does not is stopped before the pod is.
const (
	maxSource   = 64 << 20  // bytes that are read from the source
	maxRendered = 32 << 20  // bytes of rendered objects
	maxMemory   = 384 << 20 // bytes of live heap; the step's limit is 512 MiB
)

// bounded runs render until it is done, ctx ends or it takes too much memory.
// Nothing can stop kustomize on its way: what runs on ends with the process.
func bounded[T any](ctx context.Context, render func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := render()
		done <- result{value, err}
	}()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	var none T
	for {
		select {
		case r := <-done:
			return r.value, r.err
		case <-ctx.Done():
			return none, fmt.Errorf("stopped while rendering: %w; nothing was changed", context.Cause(ctx))
		case <-ticks.C:
			if heap() > maxMemory {
				return none, errors.New("rendering takes more than " + fmt.Sprint(maxMemory>>20) + " MiB of memory; look for bases that include each other many times over")
			}
		}
	}
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
