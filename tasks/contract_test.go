// Package tasks_test holds the YAML that users see together: each Task with the
// program that its steps run, each pipeline with its Tasks, each trigger with
// its pipeline.
package tasks_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/triggers/pkg/apis/triggers/contexts"
	triggersv1 "github.com/tektoncd/triggers/pkg/apis/triggers/v1beta1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"
)

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
	reference     = regexp.MustCompile(`\$\(([^()]*)\)`)
	pinnedImage   = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	versionImage  = regexp.MustCompile(`:v?[0-9]+\.[0-9]+\.[0-9]+$`)
	wholeParam    = regexp.MustCompile(`^\$\(params\.([^()]+)\)$`)
	usedParam     = regexp.MustCompile(`\$\(params\.([a-zA-Z0-9_-]+)(?:\[[^]]*\])?\)`)
	usedTTParam   = regexp.MustCompile(`\$\(tt\.params\.([a-zA-Z0-9_-]+)\)`)
	usedExtension = regexp.MustCompile(`\bextensions\.([a-zA-Z0-9_-]+)`)
	taskResult    = regexp.MustCompile(`\$\(tasks\.([a-z0-9-]+)\.results\.([a-zA-Z0-9_-]+)(\[\*\])?\)`)
	contractName  = regexp.MustCompile(`^(PARAM|WORKSPACE|RESULT)_`)
)

// taskOf is the Task of a pipeline's task, nil for one that is not there.
func (c *contract) taskOf(pt pipelinev1.PipelineTask) *pipelinev1.Task {
	if pt.TaskSpec != nil {
		return &pipelinev1.Task{Spec: pt.TaskSpec.TaskSpec}
	}
	return c.tasks[pt.TaskRef.Name]
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
