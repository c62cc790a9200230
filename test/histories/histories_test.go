package histories_test

import (
	"strings"
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
	// What the promises are about has to happen, and often.
	if total.Overtaken < total.Histories/2 || total.Killed < total.Histories/8 || total.Takeovers < total.Histories/8 {
		t.Errorf("the histories have too little in them: %s", total)
	}
}

// TestOracle: where the API server takes writes unconditionally, an older run
// overwrites a newer one, and the oracle says so.
func TestOracle(t *testing.T) {
	t.Parallel()
	const most = 300
	for seed := range uint64(most) {
		if _, err := histories.Try(t, histories.NewUnconditionalFake(), seed); err != nil {
			t.Logf("seed %d: %v", seed, strings.SplitN(err.Error(), "\n", 3)[1])
			return
		}
	}
	t.Errorf("%d histories without conditions on writes, and nothing is found wrong", most)
}
