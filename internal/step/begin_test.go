package step_test

import (
	"errors"
	"testing"

	"github.com/slipway-ci/slipway/internal/step"
)

func TestBegin(t *testing.T) {
	t.Parallel()
	problem := errors.New("a problem")
	began, goOn := make(chan struct{}), make(chan struct{})
	wait := step.Begin(func() (int, error) {
		close(began)
		<-goOn
		return 7, problem
	})
	<-began // though nobody waits yet
	close(goOn)
	for range 2 {
		if got, err := wait(); got != 7 || !errors.Is(err, problem) {
			t.Errorf("got %d, %v", got, err)
		}
	}
}
