// Package explain says why the first task of a run did not finish in time. Its
// pod may never have begun, then nobody else can: there is no log, and Tekton
// says no more than that the time was over.
package explain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sethvargo/go-envconfig"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/slipway-ci/slipway/internal/step"
)

// Config is what the Task tells the step.
type Config struct {
	Namespace   string `env:"PARAM_NAMESPACE, required"`
	PipelineRun string `env:"PARAM_PIPELINE_RUN, required"`
	Task        string `env:"PARAM_TASK, required"` // the pipeline's name for it
}

var (
	taskRuns = schema.GroupVersionResource{Group: "tekton.dev", Version: "v1", Resource: "taskruns"}
	claims   = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
	events   = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

// Run finds out why the task did not finish, and returns it as its error: the
// run has failed, and this is the last that is said of it. It reads the cluster
// that connect leads to and changes nothing.
func Run(ctx context.Context, env envconfig.Lookuper, connect func() (dynamic.Interface, error), log io.Writer) error {
	var config Config
	if err := step.Load(ctx, &config, env); err != nil {
		return err
	}
	client, err := connect()
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	runs, err := client.Resource(taskRuns).Namespace(config.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{"tekton.dev/pipelineRun": config.PipelineRun, "tekton.dev/pipelineTask": config.Task}.String(),
	})
	if err != nil {
		return fmt.Errorf("look for the TaskRun of %s: %w", config.Task, err)
	}
	if len(runs.Items) == 0 {
		return step.BadInput(fmt.Errorf("run %s has no TaskRun of a task %s", config.PipelineRun, config.Task))
	}
	run := &runs.Items[0]
	if began(run) {
		return fmt.Errorf("%s took longer than its timeout: see its log for what it waited for, or give it more time in the PipelineRun: spec.timeouts.tasks, and where the Pipeline limits it by itself spec.taskRunSpecs (pipelineTaskName %[1]s, timeout)", config.Task)
	}
	for _, claim := range claimsOf(run) {
		if err := check(ctx, client, config.Namespace, claim); err != nil {
			return fmt.Errorf("%s never began: %w", config.Task, err)
		}
	}
	why, err := lastWarning(ctx, client, config.Namespace, run, log)
	if err != nil {
		return fmt.Errorf("%s never began: look for the events of its pod: %w", config.Task, err)
	}
	return fmt.Errorf("%s never began: %s", config.Task, why)
}

// began says whether a step of the run was started.
func began(run *unstructured.Unstructured) bool {
	created, _, _ := unstructured.NestedString(run.Object, "metadata", "creationTimestamp")
	steps, _, _ := unstructured.NestedSlice(run.Object, "status", "steps")
	return slices.ContainsFunc(steps, func(s any) bool {
		state, _ := s.(map[string]any)
		// When time is over, Tekton says of a step that still waited that it
		// started when its TaskRun was created (terminateStepsInPod in its
		// pkg/reconciler/taskrun).
		started, _, _ := unstructured.NestedString(state, "terminated", "startedAt")
		return state["running"] != nil || started != "" && started != created
	})
}

func claimsOf(run *unstructured.Unstructured) (names []string) {
	workspaces, _, _ := unstructured.NestedSlice(run.Object, "spec", "workspaces")
	for _, w := range workspaces {
		workspace, _ := w.(map[string]any)
		if name, ok, _ := unstructured.NestedString(workspace, "persistentVolumeClaim", "claimName"); ok {
			names = append(names, name)
		}
	}
	return names
}

// check is nil if a pod can use the claim.
func check(ctx context.Context, client dynamic.Interface, namespace, name string) error {
	claim, err := client.Resource(claims).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return step.BadInput(fmt.Errorf("claim %s does not exist in namespace %s: create that PersistentVolumeClaim, or name another in the PipelineRun's workspaces", name, namespace))
	}
	if err != nil {
		return fmt.Errorf("look at claim %s: %w", name, err)
	}
	phase, _, _ := unstructured.NestedString(claim.Object, "status", "phase")
	if phase == "Lost" {
		return step.BadInput(fmt.Errorf("claim %s has lost its volume: delete it and create it again; its caches fill again by themselves", name))
	}
	return nil
}

// lastWarning is the last that the cluster has complained of about the run's
// pod. All of it goes to log.
func lastWarning(ctx context.Context, client dynamic.Interface, namespace string, run *unstructured.Unstructured, log io.Writer) (string, error) {
	pod, _, _ := unstructured.NestedString(run.Object, "status", "podName")
	if pod == "" {
		return "", errors.New("it has no pod: is the Tekton controller running?")
	}
	list, err := client.Resource(events).Namespace(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.kind": "Pod", "involvedObject.name": pod, "type": "Warning"}.String(),
	})
	if err != nil {
		return "", err
	}
	if len(list.Items) == 0 {
		return fmt.Sprintf("nothing is known of pod %s: it was waiting, perhaps for a node to take it", pod), nil
	}
	slices.SortStableFunc(list.Items, func(a, b unstructured.Unstructured) int { return cmp.Compare(seen(a), seen(b)) })
	last := ""
	for _, event := range list.Items {
		reason, _, _ := unstructured.NestedString(event.Object, "reason")
		message, _, _ := unstructured.NestedString(event.Object, "message")
		last = fmt.Sprintf("pod %s: %s: %s", pod, reason, message)
		fmt.Fprintln(log, last)
	}
	return last, nil
}

// seen is when an event was last seen, in RFC 3339, which sorts as text.
func seen(event unstructured.Unstructured) string {
	last, _, _ := unstructured.NestedString(event.Object, "lastTimestamp")
	at, _, _ := unstructured.NestedString(event.Object, "eventTime")
	return cmp.Or(last, at)
}
