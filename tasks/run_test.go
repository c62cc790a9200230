package tasks_test

import (
	"slices"
	"testing"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
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

// Tekton reads results and artifacts from folders that all steps can write to,
// in each step, and follows links there: RUN instructions have nothing in their
// place, if that is bound, and every pipeline of ours binds it to what nobody
// writes to.
func TestRunCannotWriteResults(t *testing.T) {
	t.Parallel()
	c := load(t)
	sealed := map[string]string{"sealed-results": pipeline.DefaultResultPath, "sealed-artifacts": pipeline.ArtifactsDir}
	checkTask := func(name string, spec pipelinev1.TaskSpec) {
		for _, workspace := range spec.Workspaces {
			if path, ok := sealed[workspace.Name]; ok && (workspace.MountPath != path || !workspace.ReadOnly) {
				t.Errorf("%s, workspace %s: %+v, want %s, read-only", name, workspace.Name, workspace, path)
			}
		}
		for _, step := range spec.Steps {
			for workspace := range sealed {
				has := slices.ContainsFunc(step.Workspaces, func(w pipelinev1.WorkspaceUsage) bool { return w.Name == workspace && w.MountPath == "" })
				if has == ours(step.Image) {
					t.Errorf("%s, step %s: it has the workspace %s: %v", name, step.Name, workspace, has)
				}
			}
		}
	}
	checkTask("Task slipway-build", c.tasks["slipway-build"].Spec)
	builds := 0
	for name, p := range c.pipelines {
		for _, pt := range p.Spec.Tasks {
			switch {
			case pt.TaskSpec != nil && slices.ContainsFunc(pt.TaskSpec.Steps, func(s pipelinev1.Step) bool { return !ours(s.Image) }):
				checkTask("Pipeline "+name+", task "+pt.Name, pt.TaskSpec.TaskSpec)
			case pt.TaskRef == nil || pt.TaskRef.Name != "slipway-build":
				continue
			}
			builds++
			for workspace := range sealed {
				if !slices.ContainsFunc(pt.Workspaces, func(w pipelinev1.WorkspacePipelineTaskBinding) bool {
					return w.Name == workspace && w.Workspace == "shared" && w.SubPath == "sealed"
				}) {
					t.Errorf("Pipeline %s, task %s: it does not bind %s", name, pt.Name, workspace)
				}
			}
		}
	}
	if builds < 4 {
		t.Errorf("%d builds were looked at", builds)
	}
}

// What the step push can read when it ends is within reach of a RUN that has
// left a link to it: it mounts no secret, and no token.
func TestPushHasNothingToLeave(t *testing.T) {
	t.Parallel()
	for _, step := range load(t).tasks["slipway-build"].Spec.Steps {
		if step.Name != "push" {
			continue
		}
		for _, workspace := range step.Workspaces {
			if workspace.Name != "output" {
				t.Errorf("it has the workspace %s", workspace.Name)
			}
		}
		if !slices.ContainsFunc(step.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == "no-token" && m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount"
		}) {
			t.Error("it has the service account's token")
		}
	}
}
