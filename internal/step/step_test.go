package step_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/step"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"nil", nil, 0},
		{"plain", cause, step.ExitFailed},
		{"bad input", step.BadInput(cause), step.ExitBadInput},
		{"not ready, wrapped", fmt.Errorf("deploy: %w", step.NotReady(cause)), step.ExitNotReady},
		{"bad input of nil", step.BadInput(nil), 0},
	} {
		if got := step.ExitCode(tc.err); got != tc.want {
			t.Errorf("%s: exit code %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestLoadTakesAnEmptyParamAsNotSet(t *testing.T) {
	t.Parallel()
	type config struct {
		Image   string `env:"PARAM_IMAGE, required"`
		Context string `env:"PARAM_CONTEXT, default=."`
	}
	var c config
	err := step.Load(t.Context(), &c, envconfig.MapLookuper(map[string]string{"PARAM_IMAGE": "r/app", "PARAM_CONTEXT": ""}))
	if err != nil || c != (config{"r/app", "."}) {
		t.Errorf("got %+v, %v", c, err)
	}
	err = step.Load(t.Context(), &config{}, envconfig.MapLookuper(map[string]string{"PARAM_IMAGE": ""}))
	if step.ExitCode(err) != step.ExitBadInput || !strings.Contains(err.Error(), "PARAM_IMAGE") {
		t.Errorf("empty required param: %v", err)
	}
}

func TestWriteResult(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "IMAGE_DIGEST")
	if err := step.WriteResult(path, "sha256:1"); err != nil {
		t.Fatal(err)
	}
	if err := step.WriteResult(path, strings.Repeat("x", step.MaxResult+1)); err == nil {
		t.Error("a result over the limit was written")
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "sha256:1" {
		t.Errorf("after a refused write: %q, %v", got, err)
	}
	if err := step.WriteResult("", "x"); err != nil {
		t.Errorf("no path: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left beside the result: %v, %v", left, err)
	}
}
