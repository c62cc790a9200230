package tasks_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	onePodFile = "../pipelines/one-pod.yaml"
	onePodName = "slipway-one-pod"
	onePodHead = `# The pipeline slipway-fetch-build-deploy with the steps of its Tasks in one pod.
# Generated from ../pipelines/fetch-build-deploy.yaml and ../tasks: change those,
# then go test ./tasks -run TestOnePod -update
`
)

// pipelines/one-pod.yaml is what folding the pipeline gives: params,
// workspaces and results are the same, so that a run changes from one to the
// other by the name of its pipeline.
func TestOnePod(t *testing.T) {
	t.Parallel()
	c := load(t)
	f := &fold{from: c.pipelines["slipway-fetch-build-deploy"], tasks: c.tasks}
	object := map[string]any{}
	if err := yaml.Unmarshal([]byte(marshal(t, f.pipeline(t))), &object); err != nil {
		t.Fatal(err)
	}
	dropUnset(object)
	generated(t, onePodFile, onePodHead+marshal(t, object))
}

const (
	onePodTriggerFile = "../triggers/push-one-pod.yaml"
	onePodTriggerHead = `# What a push becomes where it is to run in one pod: push.yaml's template with
# that pipeline, the same params and the same binding. docs/one-pod.md
# Generated from push.yaml and ../examples/app/run-one-pod.yaml: change those,
# then go test ./tasks -run TestOnePodTrigger -update
`
)

// The template starts what examples/app/run-one-pod.yaml does by hand, with
// the params of pushes.
func TestOnePodTrigger(t *testing.T) {
	t.Parallel()
	generated(t, onePodTriggerFile, onePodTriggerHead+marshal(t, onePodTemplate(t)))
}

// pushTemplate is the TriggerTemplate of triggers/push.yaml as it is written.
func pushTemplate(t *testing.T) map[string]any {
	t.Helper()
	pushes := objects(t, "../triggers/push.yaml")
	return pushes[slices.IndexFunc(pushes, func(object map[string]any) bool { return object["kind"] == "TriggerTemplate" })]
}

// onePodTemplate is it with the one pod's pipeline.
func onePodTemplate(t *testing.T) map[string]any {
	t.Helper()
	byHand := objects(t, "../examples/app/run-one-pod.yaml")[0]["spec"].(map[string]any)
	template := pushTemplate(t)
	template["metadata"].(map[string]any)["name"] = "slipway-push-one-pod"
	for _, run := range template["spec"].(map[string]any)["resourcetemplates"].([]any) {
		spec := run.(map[string]any)["spec"].(map[string]any)
		for _, field := range []string{"pipelineRef", "timeouts", "taskRunTemplate", "taskRunSpecs"} {
			spec[field] = byHand[field]
		}
	}
	return template
}

// objects are a file's as they are written.
func objects(t *testing.T, file string) (objects []map[string]any) {
	t.Helper()
	for _, document := range documents(t, file) {
		object := map[string]any{}
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		objects = append(objects, object)
	}
	return objects
}

// generated holds a file to what it is made of; -update writes it anew.
func generated(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is not what it is generated from: is (-), want (+); write it anew with -update\n%s", file, diff)
	}
}

// dropUnset takes out what Tekton's types write although it is not set.
func dropUnset(value any) {
	switch value := value.(type) {
	case map[string]any:
		maps.DeleteFunc(value, func(field string, child any) bool { return child == nil || field == "mountPath" && child == "" })
		for _, child := range value {
			dropUnset(child)
		}
	case []any:
		for _, child := range value {
			dropUnset(child)
		}
	}
}

// fold makes one Task of a pipeline's Tasks, which run one after the other.
type fold struct {
	from  *pipelinev1.Pipeline
	tasks map[string]*pipelinev1.Task
	into  pipelinev1.TaskSpec
	// What the one Task is given by its pipeline.
	params     pipelinev1.Params
	workspaces []pipelinev1.WorkspacePipelineTaskBinding
	// The step that writes a Task's result, by TASK.RESULT.
	writers map[string]string
}

const (
	onePodTask = "run"
	// sourceFolder is of the pod, in the place of the run's on the claim.
	sourceFolder = "/workspace/source"
	sourceVolume = "source"
)

var wholeArray = regexp.MustCompile(`^\$\(params\.([a-zA-Z0-9_-]+)\[\*\]\)$`)

func (f *fold) pipeline(t *testing.T) *pipelinev1.Pipeline {
	t.Helper()
	f.writers = map[string]string{}
	f.into.Volumes = []corev1.Volume{{Name: sourceVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	annotations := map[string]string{}
	for _, pt := range f.from.Spec.Tasks {
		task := f.taskOf(t, pt)
		for name, value := range task.Annotations {
			if strings.HasSuffix(name, "/skip-containers") {
				annotations[name] = value
			}
		}
		f.add(t, pt, task.DeepCopy())
	}
	out := f.from.DeepCopy()
	out.Name = onePodName
	out.Labels["app.kubernetes.io/name"] = out.Name
	out.Annotations["tekton.dev/displayName"] = "From a commit to a running app, in one pod"
	out.Spec.Description = "What slipway-fetch-build-deploy does, with the same params, workspaces and results, " +
		"in one pod: it saves the start of two. The source is in the pod and not on the claim. " +
		"The run's service account needs the rights of deploy-rbac.yaml; its token is not within reach of RUN instructions, " +
		"but in their pod: docs/one-pod.md says what that means. It fetches by http and https."
	out.Spec.Tasks = []pipelinev1.PipelineTask{{
		Name:       onePodTask,
		Params:     f.params,
		Workspaces: f.workspaces,
		TaskSpec: &pipelinev1.EmbeddedTask{
			Metadata: pipelinev1.PipelineTaskMetadata{Annotations: annotations},
			TaskSpec: f.into,
		},
	}}
	for i, result := range out.Spec.Results {
		match := taskResult.FindStringSubmatch(result.Value.StringVal)
		if match == nil {
			t.Fatalf("result %s is %q, and no Task's", result.Name, result.Value.StringVal)
		}
		writer := f.writers[match[1]+"."+match[2]]
		f.into.Results = append(f.into.Results, pipelinev1.TaskResult{
			Name: result.Name, Type: result.Type, Description: result.Description,
			Value: pipelinev1.NewStructuredValues("$(steps." + writer + ".results." + match[2] + ")"),
		})
		out.Spec.Results[i].Value = *pipelinev1.NewStructuredValues("$(tasks." + onePodTask + ".results." + result.Name + match[3] + ")")
	}
	out.Spec.Tasks[0].TaskSpec.TaskSpec = f.into
	// Nothing is left on the claim. A pod that never began is still to explain.
	out.Spec.Finally = slices.DeleteFunc(out.Spec.Finally, func(pt pipelinev1.PipelineTask) bool { return pt.Name == "cleanup" })
	for i := range out.Spec.Finally {
		final := &out.Spec.Finally[i]
		for j := range final.When {
			final.When[j].Input = strings.ReplaceAll(final.When[j].Input, "$(tasks.fetch.", "$(tasks."+onePodTask+".")
		}
		for j := range final.Params {
			if final.Params[j].Name == "task" {
				final.Params[j].Value = *pipelinev1.NewStructuredValues(onePodTask)
			}
		}
	}
	return out
}

// taskOf is the Task of a pipeline's task. In the place of the catalog's
// git-clone, which has a script and no step to itself, comes our own.
func (f *fold) taskOf(t *testing.T, pt pipelinev1.PipelineTask) *pipelinev1.Task {
	t.Helper()
	name := pt.TaskRef.Name
	if name == "git-clone" {
		name = "slipway-fetch"
	}
	task, ok := f.tasks[name]
	if !ok {
		t.Fatalf("no Task is named %s", name)
	}
	return task
}

// add takes over the steps and volumes of a Task, and what they have of its
// params and workspaces.
func (f *fold) add(t *testing.T, pt pipelinev1.PipelineTask, task *pipelinev1.Task) {
	t.Helper()
	texts, lists := f.values(task, pt)
	mounts := map[string]corev1.VolumeMount{} // of workspaces that are the pod's own
	bound := map[string]bool{}
	for _, binding := range pt.Workspaces {
		declared := task.Spec.Workspaces[slices.IndexFunc(task.Spec.Workspaces, func(w pipelinev1.WorkspaceDeclaration) bool { return w.Name == binding.Name })]
		if strings.HasPrefix(binding.SubPath, "runs/") {
			mounts[binding.Name] = corev1.VolumeMount{Name: sourceVolume, MountPath: sourceFolder, ReadOnly: declared.ReadOnly}
			texts["$(workspaces."+binding.Name+".path)"] = sourceFolder
			continue
		}
		if slices.ContainsFunc(f.workspaces, func(other pipelinev1.WorkspacePipelineTaskBinding) bool { return other.Name == binding.Name }) {
			t.Fatalf("two Tasks have a workspace %s", binding.Name)
		}
		bound[binding.Name] = true
		f.workspaces = append(f.workspaces, binding)
		f.into.Workspaces = append(f.into.Workspaces, declared)
	}
	for _, declared := range task.Spec.Workspaces {
		if _, ours := mounts[declared.Name]; !ours && !bound[declared.Name] {
			texts["$(workspaces."+declared.Name+".path)"] = "" // as Tekton has it
		}
	}
	for i := range task.Spec.Steps {
		s := &task.Spec.Steps[i]
		for _, env := range s.Env {
			for _, result := range task.Spec.Results {
				path := "$(results." + result.Name + ".path)"
				if env.Value != path {
					continue
				}
				// A step's own is in a folder that other steps cannot write.
				s.Results = append(s.Results, pipelinev1.StepResult{Name: result.Name, Type: cmp.Or(result.Type, pipelinev1.ResultsTypeString), Description: result.Description})
				texts[path] = "$(step.results." + result.Name + ".path)"
				f.writers[pt.Name+"."+result.Name] = s.Name
			}
		}
		seen := s.Workspaces
		if seen == nil { // a Task of one step need not say which it sees
			for _, declared := range task.Spec.Workspaces {
				seen = append(seen, pipelinev1.WorkspaceUsage{Name: declared.Name})
			}
		}
		s.Workspaces = nil
		for _, usage := range seen {
			if mount, ours := mounts[usage.Name]; ours {
				s.VolumeMounts = append(s.VolumeMounts, mount)
			} else if bound[usage.Name] {
				s.Workspaces = append(s.Workspaces, usage)
			}
		}
		s.Image = replace(s.Image, texts)
		for j := range s.Env {
			s.Env[j].Value = replace(s.Env[j].Value, texts)
		}
		var args []string
		for _, arg := range s.Args {
			if match := wholeArray.FindStringSubmatch(arg); match != nil {
				args = append(args, lists[match[1]]...)
			} else {
				args = append(args, replace(arg, texts))
			}
		}
		s.Args = args
		f.into.Steps = append(f.into.Steps, *s)
	}
	f.into.Volumes = append(f.into.Volumes, task.Spec.Volumes...)
}

// values are what a Task's params have: what its pipeline gives, or their own
// defaults. Of arrays it is a list.
func (f *fold) values(task *pipelinev1.Task, pt pipelinev1.PipelineTask) (texts map[string]string, lists map[string][]string) {
	texts, lists = map[string]string{}, map[string][]string{}
	for _, param := range task.Spec.Params {
		value := param.Default
		if i := slices.IndexFunc(pt.Params, func(p pipelinev1.Param) bool { return p.Name == param.Name }); i >= 0 {
			value = &pt.Params[i].Value
			if strings.Contains(value.StringVal, "$(context.") { // Tekton replaces it here alone
				f.params = append(f.params, pt.Params[i])
				f.into.Params = append(f.into.Params, pipelinev1.ParamSpec{Name: param.Name, Type: param.Type, Description: param.Description})
				continue
			}
		}
		if param.Type == pipelinev1.ParamTypeArray {
			for _, element := range value.ArrayVal {
				lists[param.Name] = append(lists[param.Name], f.ofSteps(element))
			}
			continue
		}
		texts["$(params."+param.Name+")"] = f.ofSteps(value.StringVal)
	}
	return texts, lists
}

// ofSteps is a value with the results of earlier Tasks as those of their steps.
func (f *fold) ofSteps(value string) string {
	return taskResult.ReplaceAllStringFunc(value, func(result string) string {
		match := taskResult.FindStringSubmatch(result)
		return fmt.Sprintf("$(steps.%s.results.%s%s)", f.writers[match[1]+"."+match[2]], match[2], match[3])
	})
}

// replace replaces references once: what comes in is the pipeline's.
func replace(value string, texts map[string]string) string {
	return reference.ReplaceAllStringFunc(value, func(found string) string {
		if text, ok := texts[found]; ok {
			return text
		}
		return found
	})
}
