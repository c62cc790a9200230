package tasks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

func TestPipelines(t *testing.T) {
	t.Parallel()
	c := load(t)
	for name, pipeline := range c.pipelines {
		raw := marshal(t, pipeline.Spec.Tasks) + marshal(t, pipeline.Spec.Finally)
		used := matches(usedParam, raw)
		for _, param := range pipeline.Spec.Params {
			if !used[param.Name] {
				t.Errorf("Pipeline %s: param %s is used nowhere", name, param.Name)
			}
			if param.Description == "" {
				t.Errorf("Pipeline %s: param %s has no description", name, param.Name)
			}
		}
		tasks := slices.Concat(pipeline.Spec.Tasks, pipeline.Spec.Finally)
		for _, workspace := range pipeline.Spec.Workspaces {
			if !slices.ContainsFunc(tasks, func(pt pipelinev1.PipelineTask) bool {
				return slices.ContainsFunc(pt.Workspaces, func(b pipelinev1.WorkspacePipelineTaskBinding) bool { return b.Workspace == workspace.Name })
			}) {
				t.Errorf("Pipeline %s: workspace %s is used nowhere", name, workspace.Name)
			}
		}
		for _, pt := range tasks {
			where := fmt.Sprintf("Pipeline %s, task %s", name, pt.Name)
			task := c.taskOf(pt)
			if task == nil {
				t.Errorf("%s: no Task is named %s", where, pt.TaskRef.Name)
				continue
			}
			joinParams(t, where, slices.Concat(pt.Params, fannedOut(pt.Matrix)), task.Spec.Params, pipeline.Spec.Params)
			joinWorkspaces(t, where, pt.Workspaces, task.Spec.Workspaces, pipeline.Spec.Workspaces)
		}
		for _, match := range taskResult.FindAllStringSubmatch(raw+marshal(t, pipeline.Spec.Results), -1) {
			for _, pt := range tasks {
				if pt.Name == match[1] && c.taskOf(pt) != nil &&
					!slices.ContainsFunc(c.taskOf(pt).Spec.Results, func(r pipelinev1.TaskResult) bool { return r.Name == match[2] }) {
					t.Errorf("Pipeline %s: %s names a result that the Task of %s has not", name, match[0], pt.Name)
				}
			}
		}
	}
}

// TestDeploysTakeAdvice: what a deploy that fails tells a user to set, he can set
// where he has a pipeline and no Task.
func TestDeploysTakeAdvice(t *testing.T) {
	t.Parallel()
	c := load(t)
	for name, pipeline := range c.pipelines {
		for _, pt := range pipeline.Spec.Tasks {
			if pt.TaskRef == nil || pt.TaskRef.Name != "slipway-deploy" || !strings.HasPrefix(name, "slipway-") {
				continue // or it is an example, which is its user's to extend
			}
			want := []string{"prune", "take-ownership-from", "tolerate"}
			if _, ok := byName(pipeline.Spec.Params)["overlay"]; ok {
				want = append(want, "image-fields") // a rollback has them from the inventory
			}
			for _, param := range want {
				if !matches(usedParam, marshal(t, pt.Params))[param] {
					t.Errorf("Pipeline %s, task %s: param %s cannot be set", name, pt.Name, param)
				}
			}
		}
	}
}

// fannedOut are the params that each TaskRun of a matrix gets one value of.
func fannedOut(matrix *pipelinev1.Matrix) (params pipelinev1.Params) {
	if matrix == nil {
		return nil
	}
	for _, param := range matrix.Params {
		params = append(params, pipelinev1.Param{Name: param.Name, Value: *pipelinev1.NewStructuredValues("one of them")})
	}
	return params
}

// joinParams holds the params given against those declared. outer are the
// params that a value may pass on.
func joinParams(t *testing.T, where string, given pipelinev1.Params, declared, outer pipelinev1.ParamSpecs) {
	t.Helper()
	specs := byName(declared)
	for _, param := range given {
		spec, ok := specs[param.Name]
		switch {
		case !ok:
			t.Errorf("%s: param %s is declared nowhere", where, param.Name)
		case spec.Type != param.Value.Type:
			t.Errorf("%s: param %s is given as %s, declared as %s", where, param.Name, param.Value.Type, spec.Type)
		}
		delete(specs, param.Name)
		// A default that is passed on has one owner: it stands at both ends or
		// the two would drift.
		if match := wholeParam.FindStringSubmatch(param.Value.StringVal); ok && match != nil {
			for _, o := range outer {
				if o.Name == match[1] && o.Default != nil && spec.Default != nil && !cmp.Equal(o.Default, spec.Default) {
					t.Errorf("%s: param %s defaults to %q, in the Task to %q", where, o.Name, o.Default.StringVal, spec.Default.StringVal)
				}
			}
		}
	}
	for name, spec := range specs {
		if spec.Default == nil {
			t.Errorf("%s: param %s is required and not given", where, name)
		}
	}
}

func byName(params pipelinev1.ParamSpecs) map[string]pipelinev1.ParamSpec {
	specs := make(map[string]pipelinev1.ParamSpec, len(params))
	for _, param := range params {
		specs[param.Name] = param
	}
	return specs
}

func joinWorkspaces(t *testing.T, where string, bound []pipelinev1.WorkspacePipelineTaskBinding, declared []pipelinev1.WorkspaceDeclaration, outer []pipelinev1.PipelineWorkspaceDeclaration) {
	t.Helper()
	optional := map[string]bool{}
	for _, workspace := range outer {
		optional[workspace.Name] = workspace.Optional
	}
	needed := map[string]bool{}
	for _, workspace := range declared {
		needed[workspace.Name] = !workspace.Optional
	}
	for _, binding := range bound {
		need, ok := needed[binding.Name]
		if !ok {
			t.Errorf("%s: the Task has no workspace %s", where, binding.Name)
		}
		if need && optional[binding.Workspace] {
			t.Errorf("%s: workspace %s is required, %s is optional", where, binding.Name, binding.Workspace)
		}
		delete(needed, binding.Name)
	}
	for name, need := range needed {
		if need {
			t.Errorf("%s: workspace %s is required and not bound", where, name)
		}
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	c := load(t)
	if len(c.runs) == 0 {
		t.Error("there is no PipelineRun to look at")
	}
	for where, run := range c.runs {
		pipeline, ok := c.pipelines[run.Spec.PipelineRef.Name]
		if !ok {
			t.Errorf("%s: no Pipeline is named %s", where, run.Spec.PipelineRef.Name)
			continue
		}
		joinParams(t, where, run.Spec.Params, pipeline.Spec.Params, nil)
		bound := map[string]bool{}
		for _, binding := range run.Spec.Workspaces {
			bound[binding.Name] = true
		}
		for _, workspace := range pipeline.Spec.Workspaces {
			if !bound[workspace.Name] && !workspace.Optional {
				t.Errorf("%s: workspace %s is not bound", where, workspace.Name)
			}
		}
		names := map[string]bool{}
		for _, pt := range slices.Concat(pipeline.Spec.Tasks, pipeline.Spec.Finally) {
			names[pt.Name] = true
		}
		for _, spec := range run.Spec.TaskRunSpecs {
			if !names[spec.PipelineTaskName] {
				t.Errorf("%s: the pipeline has no task %s", where, spec.PipelineTaskName)
			}
		}
	}
}

// A TaskRun of the examples has what its Task takes.
func TestTaskRuns(t *testing.T) {
	t.Parallel()
	c := load(t)
	for where, run := range c.taskRuns {
		task, ok := c.tasks[run.Spec.TaskRef.Name]
		if !ok {
			t.Errorf("%s: no Task is named %s", where, run.Spec.TaskRef.Name)
			continue
		}
		joinParams(t, where, run.Spec.Params, task.Spec.Params, nil)
		for _, binding := range run.Spec.Workspaces {
			if !slices.ContainsFunc(task.Spec.Workspaces, func(w pipelinev1.WorkspaceDeclaration) bool { return w.Name == binding.Name }) {
				t.Errorf("%s: Task %s has no workspace %s", where, task.Name, binding.Name)
			}
		}
		for _, spec := range run.Spec.StepSpecs {
			if !slices.ContainsFunc(task.Spec.Steps, func(s pipelinev1.Step) bool { return s.Name == spec.Name }) {
				t.Errorf("%s: Task %s has no step %s", where, task.Name, spec.Name)
			}
		}
	}
}
