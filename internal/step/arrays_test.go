package step_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/step"
)

func TestArrays(t *testing.T) {
	t.Parallel()
	var buildArgs, kanikoArgs []string
	arrays := map[string]*[]string{"--build-args": &buildArgs, "--kaniko-args": &kanikoArgs}

	err := step.Arrays([]string{"--build-args", "A=1", "", "--b=2", "--kaniko-args", "--label=x=--build-args"}, arrays)
	if err != nil || !slices.Equal(buildArgs, []string{"A=1", "--b=2"}) || !slices.Equal(kanikoArgs, []string{"--label=x=--build-args"}) {
		t.Errorf("got %q, %q, %v", buildArgs, kanikoArgs, err)
	}
	for args, want := range map[string]string{
		"--build-args A --kaniko-args B --build-args C": `"--build-args" cannot be a value`,
		"A --build-args": `"A" belongs to no array param`,
	} {
		err := step.Arrays(strings.Fields(args), arrays)
		if step.ExitCode(err) != step.ExitBadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}
