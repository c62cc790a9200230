package flow

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/slipway-ci/slipway/internal/artifact"
)

// pollEvery is how often a run's state is asked for.
const pollEvery = 200 * time.Millisecond

// Report is the build task's result build-report: what the build did.
type Report struct {
	// Seconds is from prepare's start to the digest in the registry.
	Seconds float64 `json:"seconds"`
	// Compiled and Cached count packages; nil is not known.
	Compiled *int `json:"compiled"`
	Cached   *int `json:"cached"`
	// Modules counts those that were downloaded; nil is not known.
	Modules *int `json:"modules"`
	// Unused says which caches were not used, and why.
	Unused []string `json:"unused"`
	// NoToolchain says why Go did not come from the cache; "" if it did.
	NoToolchain string `json:"noToolchain"`
	// Unchanged says whose image it is, where nothing was built.
	Unchanged *struct {
		By string `json:"by"`
	} `json:"unchanged"`
}

// Run is a PipelineRun that ended.
type Run struct {
	*v1.PipelineRun
	Tasks map[string]*v1.TaskRun // by the name of the pipeline's task; of a matrix build-api
	// Ended is when each task was seen to have ended, on this machine's clock:
	// Kubernetes' own times are whole seconds.
	Ended map[string]time.Time
	Log   []string // every line of every step, in the order they came
}

// Succeeded says whether all went well.
func (r *Run) Succeeded() bool {
	return r.Status.GetCondition(apis.ConditionSucceeded).IsTrue()
}

// Message is the run's own last word.
func (r *Run) Message() string { return r.Status.GetCondition(apis.ConditionSucceeded).GetMessage() }

// Result is the value of a task's result, "" if it has none.
func (r *Run) Result(task, name string) string {
	if t := r.Tasks[task]; t != nil {
		for _, result := range t.Status.Results {
			if result.Name == name {
				return result.Value.StringVal
			}
		}
	}
	return ""
}

// Report is the build's.
func (r *Run) Report() (Report, error) { return r.ReportOf("build") }

// ReportOf is that of one of several builds.
func (r *Run) ReportOf(task string) (Report, error) {
	var report Report
	text := r.Result(task, "build-report")
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		return Report{}, fmt.Errorf("read the result build-report %q of %s: %w", text, r.Name, err)
	}
	return report, nil
}

// Seconds is how long a task took by Kubernetes' clock, whole seconds; 0 if it
// did not run.
func (r *Run) Seconds(task string) float64 {
	t := r.Tasks[task]
	if t == nil || t.Status.StartTime == nil || t.Status.CompletionTime == nil {
		return 0
	}
	return t.Status.CompletionTime.Sub(t.Status.StartTime.Time).Seconds()
}

// WaitForRun finds the PipelineRun that a push of commit becomes.
func (c *Cluster) WaitForRun(ctx context.Context, namespace, commit string) (name string, err error) {
	err = Eventually(ctx, time.Minute, "a PipelineRun of commit "+commit, func(ctx context.Context) error {
		runs, err := c.Tekton.TektonV1().PipelineRuns(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, run := range runs.Items {
			if slices.ContainsFunc(run.Spec.Params, func(p v1.Param) bool { return p.Name == "revision" && p.Value.StringVal == commit }) {
				name = run.Name
				return nil
			}
		}
		return errors.New("there is none; see the logs of the git server (namespace git) and of the EventListener")
	})
	return name, err
}

// Follow shows a PipelineRun's steps as they happen, with the time since start,
// and returns when all of it has ended.
func (c *Cluster) Follow(ctx context.Context, namespace, name string, start time.Time, out io.Writer) (*Run, error) {
	f := &follower{cluster: c, namespace: namespace, out: out, start: start, seen: map[string]bool{}, streams: map[string]*sync.WaitGroup{}}
	run := &Run{Tasks: map[string]*v1.TaskRun{}, Ended: map[string]time.Time{}}
	for {
		var err error
		run.PipelineRun, err = c.Tekton.TektonV1().PipelineRuns(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		tasks, err := c.Tekton.TektonV1().TaskRuns(namespace).List(ctx, metav1.ListOptions{LabelSelector: "tekton.dev/pipelineRun=" + name})
		if err != nil {
			return nil, err
		}
		for _, task := range tasks.Items {
			id := taskID(&task)
			run.Tasks[id] = &task
			f.task(ctx, id, &task)
			if _, ended := run.Ended[id]; !ended && task.IsDone() {
				run.Ended[id] = time.Now()
				f.ended(id, run)
			}
		}
		if run.IsDone() {
			run.Log = f.lines
			return run, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

// taskID is the pipeline's name of a task; build-api is the one of a matrix
// whose artifact is api.
func taskID(task *v1.TaskRun) string {
	id := task.Labels["tekton.dev/pipelineTask"]
	for _, param := range task.Spec.Params {
		if param.Name == "artifact" {
			if one, err := artifact.Parse(param.Value.StringVal); err == nil && one.Name != "" {
				id += "-" + one.Name
			}
		}
	}
	return id
}

type follower struct {
	cluster   *Cluster
	namespace string
	out       io.Writer
	start     time.Time
	seen      map[string]bool            // steps whose log is being read, and waits that were told
	streams   map[string]*sync.WaitGroup // of each task's steps

	mu    sync.Mutex
	last  string
	lines []string
}

// task reads the log of every step that has started, and tells what a pod that
// does not start waits for.
func (f *follower) task(ctx context.Context, id string, task *v1.TaskRun) {
	if f.streams[id] == nil {
		f.streams[id] = &sync.WaitGroup{}
	}
	if task.Status.PodName == "" {
		return
	}
	pod, err := f.cluster.Kube.CoreV1().Pods(f.namespace).Get(ctx, task.Status.PodName, metav1.GetOptions{})
	if err != nil {
		return // a cancelled run's pod is gone
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && !f.seen[pod.Name+condition.Message] {
			f.seen[pod.Name+condition.Message] = true
			f.say(id, "waiting: "+condition.Message)
		}
	}
	for _, container := range pod.Status.ContainerStatuses {
		step, ok := strings.CutPrefix(container.Name, "step-")
		if !ok || f.seen[pod.Name+container.Name] || container.State.Waiting != nil {
			continue
		}
		f.seen[pod.Name+container.Name] = true
		// A task of one step is known by its own name.
		label := id
		if len(task.Status.Steps) > 1 {
			label = step
		}
		f.streams[id].Go(func() { f.stream(ctx, pod.Name, container.Name, label) })
	}
}

// ended says how a task ended, below the last line of its steps.
func (f *follower) ended(id string, run *Run) {
	f.streams[id].Wait()
	verdict := "done"
	if !run.Tasks[id].IsSuccessful() {
		verdict = "FAILED"
	}
	f.show(id, fmt.Sprintf("%s after %.0f s", verdict, run.Seconds(id)))
}

func (f *follower) stream(ctx context.Context, pod, container, label string) {
	log, err := f.cluster.Kube.CoreV1().Pods(f.namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, Follow: true}).Stream(ctx)
	if err != nil {
		f.say(label, fmt.Sprintf("(no log: %v)", err))
		return
	}
	defer log.Close()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f.say(label, lines.Text())
	}
}

// colour is what a program writes to a terminal to colour its words; a log file
// and a test's message are none (skaffold's kaniko writes it all the same).
var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// say keeps a line of a step's log, and shows it with the time since the run
// began and the step's name where that is another than before.
func (f *follower) say(label, line string) {
	line = colour.ReplaceAllString(line, "")
	f.mu.Lock()
	f.lines = append(f.lines, label+": "+line)
	f.mu.Unlock()
	f.show(label, line)
}

func (f *follower) show(label, line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	shown := label
	if label == f.last {
		shown = ""
	}
	f.last = label
	fmt.Fprintf(f.out, "%7.1f s  %-9s %s\n", time.Since(f.start).Seconds(), shown, line)
}
