// Package tasks_test holds the YAML that users see together: each Task with the
// program that its steps run, each pipeline with its Tasks, each trigger with
// its pipeline.
package tasks_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/sethvargo/go-envconfig"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/triggers/pkg/apis/triggers/contexts"
	triggersv1 "github.com/tektoncd/triggers/pkg/apis/triggers/v1beta1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/internal/checkcache"
	"github.com/slipway-ci/slipway/internal/cleanup"
	"github.com/slipway-ci/slipway/internal/deploy"
	"github.com/slipway-ci/slipway/internal/explain"
	"github.com/slipway-ci/slipway/internal/fetch"
	"github.com/slipway-ci/slipway/internal/kaniko"
	"github.com/slipway-ci/slipway/internal/prepare"
	"github.com/slipway-ci/slipway/internal/push"
	"github.com/slipway-ci/slipway/internal/step"
)

// configs read what the programs of the steps take from their environment, by
// the folder of the program and, where there is one, its subcommand.
var configs = map[string]func(context.Context, envconfig.Lookuper) error{
	"cmd/check-cache": read[checkcache.Config],
	"cmd/cleanup":     read[cleanup.Config],
	"cmd/deploy": func(ctx context.Context, env envconfig.Lookuper) error {
		return deploy.Run(ctx, nil, env, io.Discard) // ends at once: a timeout of 0 is refused
	},
	"cmd/fetch":              read[fetch.Config],
	"cmd/explain":            read[explain.Config],
	"cmd/prepare":            read[prepare.Config],
	"cmd/prepare run-kaniko": read[kaniko.Config],
	"cmd/push":               read[push.Config],
}

func read[Config any](ctx context.Context, env envconfig.Lookuper) error {
	return step.Load(ctx, new(Config), env)
}

// libraries are what steps set for the libraries of their programs.
var libraries = map[string]bool{"HOME": true, "DOCKER_CONFIG": true, "TMPDIR": true, "GOMEMLIMIT": true, "HTTP_PROXY": true, "HTTPS_PROXY": true, "NO_PROXY": true}

const module = "ko://github.com/slipway-ci/slipway/"

// folders hold the YAML that is shipped, and what the local cluster and the
// examples add to it.
var folders = []string{".", "../pipelines", "../triggers", "../examples/app", "../examples/shop", "../test/cluster/manifests"}

// contract is every object of the folders.
type contract struct {
	tasks     map[string]*pipelinev1.Task
	pipelines map[string]*pipelinev1.Pipeline
	taskRuns  map[string]*pipelinev1.TaskRun
	runs      map[string]*pipelinev1.PipelineRun // of the examples, and of the TriggerTemplates
	templates map[string]*triggersv1.TriggerTemplate
	bindings  map[string]*triggersv1.TriggerBinding
	listeners map[string]*triggersv1.EventListener
	triggers  map[string]*triggersv1.Trigger
}

// checked is what Tekton's types know about themselves.
type checked interface {
	apis.Defaultable
	apis.Validatable
}

func load(t *testing.T) *contract {
	t.Helper()
	c := &contract{
		tasks:     map[string]*pipelinev1.Task{},
		pipelines: map[string]*pipelinev1.Pipeline{},
		taskRuns:  map[string]*pipelinev1.TaskRun{},
		runs:      map[string]*pipelinev1.PipelineRun{},
		templates: map[string]*triggersv1.TriggerTemplate{},
		bindings:  map[string]*triggersv1.TriggerBinding{},
		listeners: map[string]*triggersv1.EventListener{},
		triggers:  map[string]*triggersv1.Trigger{},
	}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Errorf("no YAML in %s: %v", folder, err)
		}
		for _, file := range files {
			for _, document := range documents(t, file) {
				c.add(t, file, document)
			}
		}
	}
	for _, template := range c.templates {
		for _, resource := range template.Spec.ResourceTemplates {
			c.add(t, "TriggerTemplate "+template.Name, resource.Raw)
		}
	}
	return c
}

func documents(t *testing.T, file string) (documents [][]byte) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reader := kubeyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		documents = append(documents, document)
	}
}

// add decodes an object strictly, and has Tekton's own types check it.
func (c *contract) add(t *testing.T, file string, document []byte) {
	t.Helper()
	var about struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name         string `json:"name"`
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(document, &about); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	name := about.Metadata.Name
	kind := about.APIVersion + " " + about.Kind
	var object any
	switch kind {
	case "tekton.dev/v1 Task":
		object = put(c.tasks, name, &pipelinev1.Task{})
	case "tekton.dev/v1 Pipeline":
		object = put(c.pipelines, name, &pipelinev1.Pipeline{})
	case "tekton.dev/v1 PipelineRun":
		object = put(c.runs, file, &pipelinev1.PipelineRun{})
	case "tekton.dev/v1 TaskRun":
		object = put(c.taskRuns, file, &pipelinev1.TaskRun{})
	case "triggers.tekton.dev/v1beta1 TriggerTemplate":
		object = put(c.templates, name, &triggersv1.TriggerTemplate{})
	case "triggers.tekton.dev/v1beta1 TriggerBinding":
		object = put(c.bindings, name, &triggersv1.TriggerBinding{})
	case "triggers.tekton.dev/v1beta1 EventListener":
		object = put(c.listeners, name, &triggersv1.EventListener{})
	case "triggers.tekton.dev/v1beta1 Trigger":
		object = put(c.triggers, name, &triggersv1.Trigger{})
	case "v1 ServiceAccount":
		object = &corev1.ServiceAccount{}
	case "v1 Namespace":
		object = &corev1.Namespace{}
	case "v1 Secret":
		object = &corev1.Secret{}
	case "v1 PersistentVolumeClaim":
		object = &corev1.PersistentVolumeClaim{}
	case "rbac.authorization.k8s.io/v1 Role":
		object = &rbacv1.Role{}
	case "rbac.authorization.k8s.io/v1 RoleBinding":
		object = &rbacv1.RoleBinding{}
	case "rbac.authorization.k8s.io/v1 ClusterRole":
		object = &rbacv1.ClusterRole{}
	case "rbac.authorization.k8s.io/v1 ClusterRoleBinding":
		object = &rbacv1.ClusterRoleBinding{}
	default:
		if filepath.Dir(file) == "../test/cluster/manifests" {
			return // the cluster's own parts are no contract
		}
		t.Fatalf("%s: nobody checks a %s", file, kind)
	}
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %s %s: %v", file, about.Kind, name, err)
	}
	if name == "" && about.Metadata.GenerateName == "" {
		t.Errorf("%s: a %s has no name", file, about.Kind)
	}
	if run, ok := object.(*pipelinev1.PipelineRun); ok && run.Name == "" {
		run.Name = "generated" // by the API server, before Tekton sees it
	}
	if run, ok := object.(*pipelinev1.TaskRun); ok && run.Name == "" {
		run.Name = "generated"
	}
	if object, ok := object.(checked); ok {
		// As the webhooks do; Triggers wants to be told.
		ctx := contexts.WithUpgradeViaDefaulting(t.Context())
		object.SetDefaults(ctx)
		if err := object.Validate(ctx); err != nil {
			t.Errorf("%s: %s %s: %v", file, about.Kind, name, err)
		}
	}
}

func put[T any](objects map[string]T, name string, object T) T {
	objects[name] = object
	return object
}

var (
	reference    = regexp.MustCompile(`\$\(([^()]*)\)`)
	pinnedImage  = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	versionImage = regexp.MustCompile(`:v?[0-9]+\.[0-9]+\.[0-9]+$`)
	wholeParam   = regexp.MustCompile(`^\$\(params\.([^()]+)\)$`)
	usedParam    = regexp.MustCompile(`\$\(params\.([a-zA-Z0-9_-]+)(?:\[[^]]*\])?\)`)
	usedTTParam  = regexp.MustCompile(`\$\(tt\.params\.([a-zA-Z0-9_-]+)\)`)
	taskResult   = regexp.MustCompile(`\$\(tasks\.([a-z0-9-]+)\.results\.([a-zA-Z0-9_-]+)(\[\*\])?\)`)
	contractName = regexp.MustCompile(`^(PARAM|WORKSPACE|RESULT)_`)
)

func TestTasks(t *testing.T) {
	t.Parallel()
	for name, task := range load(t).tasks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if task.Spec.Description == "" {
				t.Error("it has no description")
			}
			raw := marshal(t, task.Spec)
			used := matches(usedParam, raw)
			for _, param := range task.Spec.Params {
				if !used[param.Name] {
					t.Errorf("param %s is used nowhere", param.Name)
				}
				if param.Description == "" {
					t.Errorf("param %s has no description", param.Name)
				}
			}
			for _, workspace := range task.Spec.Workspaces {
				// One whose place is a param's to say is for RUN instructions.
				if workspace.MountPath == "" && !strings.Contains(raw, "$(workspaces."+workspace.Name+".") {
					t.Errorf("workspace %s is used nowhere", workspace.Name)
				}
			}
			for _, result := range task.Spec.Results {
				if !strings.Contains(raw, "$(results."+result.Name+".path)") {
					t.Errorf("result %s is written by no step", result.Name)
				}
				if result.Description == "" {
					t.Errorf("result %s has no description", result.Name)
				}
			}
			for _, s := range task.Spec.Steps {
				checkStep(t, task, s)
			}
		})
	}
}

func checkStep(t *testing.T, task *pipelinev1.Task, s pipelinev1.Step) {
	t.Helper()
	if s.Script != "" {
		t.Errorf("step %s has a script: give it a command", s.Name)
	}
	if len(s.Command) == 0 {
		t.Errorf("step %s has no command", s.Name)
	}
	for _, word := range s.Command {
		if reference.MatchString(word) {
			t.Errorf("step %s: the command takes %s from outside", s.Name, word)
		}
	}
	switch match := wholeParam.FindStringSubmatch(s.Image); {
	case match != nil:
		// The user's choice: its default says which version is tested, since the
		// digest in a user's own mirror may be another.
		spec := byName(task.Spec.Params)[match[1]]
		if image := spec.Default; image == nil || !ours(image.StringVal) && !pinnedImage.MatchString(image.StringVal) && !versionImage.MatchString(image.StringVal) {
			t.Errorf("step %s: the default of param %s is no image of a certain version", s.Name, match[1])
		}
	case !ours(s.Image) && !pinnedImage.MatchString(s.Image):
		t.Errorf("step %s: image %s is neither ours nor pinned by digest", s.Name, s.Image)
	}
	for _, env := range s.Env {
		if want, ok := valueOf(task, env.Name); contractName.MatchString(env.Name) && (!ok || env.Value != want) {
			t.Errorf("step %s: %s is %s, want %q", s.Name, env.Name, env.Value, want)
		}
	}
}

func ours(image string) bool { return strings.HasPrefix(image, module) }

// valueOf is the value that an env name of the convention stands for.
func valueOf(task *pipelinev1.Task, env string) (value string, ok bool) {
	for _, param := range task.Spec.Params {
		if env == "PARAM_"+envName(param.Name) {
			return "$(params." + param.Name + ")", true
		}
	}
	for _, workspace := range task.Spec.Workspaces {
		switch env {
		case "WORKSPACE_" + envName(workspace.Name) + "_PATH":
			return "$(workspaces." + workspace.Name + ".path)", true
		case "WORKSPACE_" + envName(workspace.Name) + "_BOUND":
			return "$(workspaces." + workspace.Name + ".bound)", true
		}
	}
	for _, result := range task.Spec.Results {
		if env == "RESULT_"+envName(result.Name)+"_PATH" {
			return "$(results." + result.Name + ".path)", true
		}
	}
	return "", false
}

// envName writes go-proxy, and sslVerify as the catalog has it, as GO_PROXY and
// SSL_VERIFY.
func envName(name string) string {
	var out []rune
	lower := false
	for _, r := range name {
		switch {
		case r == '-':
			out = append(out, '_')
		case unicode.IsUpper(r) && lower:
			out = append(out, '_', r)
		default:
			out = append(out, unicode.ToUpper(r))
		}
		lower = unicode.IsLower(r)
	}
	return string(out)
}

// recorder notes each key that is looked up. Every key but the missing one has
// a value that any type of a configuration can be read from.
type recorder struct {
	keys    map[string]bool
	missing string
}

func (r recorder) Lookup(key string) (string, bool) {
	r.keys[key] = true
	return "0", key != r.missing
}

func (r recorder) Key(key string) string { return key }

// A step sets what its program reads, and nothing else; what the program cannot
// do without always has a value.
func TestStepsSetWhatTheirProgramsRead(t *testing.T) {
	t.Parallel()
	joined := map[string]bool{}
	for name, task := range load(t).tasks {
		for _, s := range task.Spec.Steps {
			program := programOf(s)
			config, ok := configs[program]
			if !ok {
				continue
			}
			joined[program] = true
			looked := recorder{keys: map[string]bool{}}
			_ = config(t.Context(), looked)
			set := map[string]bool{}
			for _, env := range s.Env {
				if !libraries[env.Name] {
					set[env.Name] = true
				}
			}
			if diff := cmp.Diff(looked.keys, set); diff != "" {
				t.Errorf("Task %s, step %s: what the program reads (-) and the step sets (+):\n%s", name, s.Name, diff)
			}
			for key := range looked.keys {
				err := config(t.Context(), recorder{keys: map[string]bool{}, missing: key})
				checkRequired(t, task, key, errors.Is(err, envconfig.ErrMissingRequired))
			}
		}
	}
	for program := range configs {
		if !joined[program] {
			t.Errorf("%s is the program of no step", program)
		}
	}
	commands, err := fs.Glob(os.DirFS(".."), "cmd/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		if _, ok := configs[filepath.Dir(command)]; !ok {
			t.Errorf("nothing joins %s with the step that runs it: add it to configs", filepath.Dir(command))
		}
	}
}

// checkRequired holds a param against the program: it is required at both ends
// or at none, and a default of what is required is not empty.
func checkRequired(t *testing.T, task *pipelinev1.Task, key string, required bool) {
	t.Helper()
	for _, param := range task.Spec.Params {
		if key != "PARAM_"+envName(param.Name) {
			continue
		}
		switch {
		case required && param.Default != nil && param.Default.StringVal == "":
			t.Errorf("Task %s, param %s: its default is empty, but the program requires it", task.Name, param.Name)
		case !required && param.Default == nil:
			t.Errorf("Task %s, param %s: it has no default, but the program does without it", task.Name, param.Name)
		}
	}
}

// programOf is the key of configs for what a step runs: the folder of its
// image, unless another step left its program on a volume.
func programOf(s pipelinev1.Step) string {
	program, built := strings.CutPrefix(s.Image, module)
	if !built {
		program = "cmd/" + filepath.Base(s.Command[0])
	}
	for _, word := range slices.Concat(s.Command, s.Args)[1:] {
		if _, subcommand := configs[program+" "+word]; subcommand {
			return program + " " + word
		}
	}
	return program
}

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

// taskOf is the Task of a pipeline's task, nil for one that is not there.
func (c *contract) taskOf(pt pipelinev1.PipelineTask) *pipelinev1.Task {
	if pt.TaskSpec != nil {
		return &pipelinev1.Task{Spec: pt.TaskSpec.TaskSpec}
	}
	return c.tasks[pt.TaskRef.Name]
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

func TestTriggers(t *testing.T) {
	t.Parallel()
	c := load(t)
	for name, template := range c.templates {
		raw := marshal(t, template.Spec.ResourceTemplates)
		used := matches(usedTTParam, raw)
		for _, param := range template.Spec.Params {
			if !used[param.Name] {
				t.Errorf("TriggerTemplate %s: param %s is used nowhere", name, param.Name)
			}
		}
	}
	for name, trigger := range c.triggers {
		given := map[string]bool{}
		for _, binding := range trigger.Spec.Bindings {
			switch {
			case binding.Name != "":
				given[binding.Name] = true
			case c.bindings[binding.Ref] == nil:
				t.Errorf("Trigger %s: no TriggerBinding is named %s", name, binding.Ref)
			default:
				for _, param := range c.bindings[binding.Ref].Spec.Params {
					given[param.Name] = true
				}
			}
		}
		template, ok := c.templates[*trigger.Spec.Template.Ref]
		if !ok {
			t.Errorf("Trigger %s: no TriggerTemplate is named %s", name, *trigger.Spec.Template.Ref)
			continue
		}
		for _, param := range template.Spec.Params {
			if !given[param.Name] && param.Default == nil {
				t.Errorf("Trigger %s: param %s of the template is required and not given", name, param.Name)
			}
			delete(given, param.Name)
		}
		for _, unknown := range slices.Sorted(maps.Keys(given)) {
			t.Errorf("Trigger %s: the template has no param %s", name, unknown)
		}
	}
}

// GitHub's interceptor lets everything through that it has no secret for.
func TestListenersVerifyWhoSends(t *testing.T) {
	t.Parallel()
	c := load(t)
	if len(c.listeners) == 0 {
		t.Error("there is no EventListener to look at")
	}
	for name, listener := range c.listeners {
		if len(listener.Spec.Triggers) > 0 || listener.Spec.LabelSelector != nil {
			t.Errorf("EventListener %s: a trigger outside of a group passes by the group's interceptors", name)
		}
		for _, group := range listener.Spec.TriggerGroups {
			first := group.Interceptors[0]
			verifies := first.Ref.Name == "github" && slices.ContainsFunc(first.Params, func(p triggersv1.InterceptorParams) bool {
				return p.Name == "secretRef" && bytes.Contains(p.Value.Raw, []byte("secretName"))
			})
			if !verifies {
				t.Errorf("EventListener %s, group %s: its first interceptor does not verify the sender", name, group.Name)
			}
		}
	}
}

func marshal(t *testing.T, object any) string {
	t.Helper()
	raw, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// matches is the set of what the expression's first group finds in s.
func matches(expression *regexp.Regexp, s string) map[string]bool {
	found := map[string]bool{}
	for _, match := range expression.FindAllStringSubmatch(s, -1) {
		found[match[1]] = true
	}
	return found
}

// Tekton's types are for this test. In a step they would be megabytes that do
// nothing, and tie it to a version of Tekton.
func TestStepsDoWithoutTekton(t *testing.T) {
	t.Parallel()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/...")
	list.Dir = ".."
	output, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, output)
	}
	for dependency := range strings.Lines(string(output)) {
		if strings.HasPrefix(dependency, "github.com/tektoncd/") || strings.HasPrefix(dependency, "knative.dev/") {
			t.Errorf("a step imports %s", strings.TrimSpace(dependency))
		}
	}
}
