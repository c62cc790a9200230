package main

import (
	"os/exec"
	"strings"
	"testing"
)

// Tekton's own packages stay out of what runs in its steps: they would add
// their dependencies to every image.
func TestLinksNoTekton(t *testing.T) {
	t.Parallel()
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(deps)) {
		if strings.HasPrefix(dep, "github.com/tektoncd/") || strings.HasPrefix(dep, "knative.dev/") {
			t.Errorf("the deploy step links %s", strings.TrimSpace(dep))
		}
	}
}
