package histories_test

import (
	"sync"
	"testing"

	"github.com/slipway-ci/slipway/test/histories"
)

// TestRandomHistories runs the program itself against the model of an API
// server; test/apiserver runs fewer histories against a real one.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	const workers, each = 4, 500
	var (
		mu    sync.Mutex
		total histories.Stats
	)
	t.Run("all", func(t *testing.T) {
		for worker := range workers {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for i := range each {
					stats := histories.Run(t, histories.NewFake(), uint64(worker*each+i))
					mu.Lock()
					total.Add(stats)
					mu.Unlock()
					if t.Failed() {
						return // one is enough to read
					}
				}
			})
		}
	})
	t.Log(total)
}
