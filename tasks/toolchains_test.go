package tasks_test

import (
	"slices"
	"testing"

	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// What RUN instructions could write, every later build would run: they have
// the toolchains by a read-only workspace, and those in the cache lie beneath
// a mount of nothing.
func TestRunCannotWriteToolchains(t *testing.T) {
	t.Parallel()
	task := load(t).tasks["slipway-build"]
	workspaces := map[string]pipelinev1.WorkspaceDeclaration{}
	for _, workspace := range task.Spec.Workspaces {
		workspaces[workspace.Name] = workspace
	}
	cache, toolchains := workspaces["cache"], workspaces[string(gocache.GoRoots)]
	if !toolchains.ReadOnly {
		t.Error("the workspace toolchains is not read-only")
	}
	covered := cache.GetMountPath() + "/" + string(gocache.GoRoots)
	for _, step := range task.Spec.Steps {
		if ours(step.Image) {
			continue
		}
		i := slices.IndexFunc(step.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == covered })
		if i < 0 || !step.VolumeMounts[i].ReadOnly {
			t.Errorf("step %s: nothing covers %s", step.Name, covered)
		}
	}
}
