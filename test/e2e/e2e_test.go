// Package e2e runs the YAML that is shipped on a real cluster, from a commit to
// the answer of the app. Every test has a namespace of its own.
package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// runTimeout is how long a run may take on a busy machine before the test gives
// up and shows its log.
const runTimeout = 10 * time.Minute

// shared is what all tests use and none changes.
var shared struct {
	cluster   *flow.Cluster
	manifests string // with this tree's step images by digest
}

func TestMain(m *testing.M) {
	if err := connect(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func connect(ctx context.Context) (err error) {
	if err := cluster.Enter(); err != nil {
		return err
	}
	if shared.cluster, err = flow.Connect(ctx); err != nil {
		return err
	}
	shared.manifests, err = flow.Resolve(ctx)
	return err
}

// site is a namespace with Slipway in it, and with images of its own.
type site struct {
	*flow.Cluster
	namespace string
}

// newSite makes a namespace and leaves it to the cluster to remove it after the
// test.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{namespace: "slipway-e2e-" + strings.ToLower(rand.Text()[:10])}
	own := *shared.cluster
	own.Images += s.namespace + "-"
	s.Cluster = &own
	t.Logf("%s: namespace %s", t.Name(), s.namespace)
	t.Cleanup(func() {
		err := s.Kube.CoreV1().Namespaces().Delete(context.Background(), s.namespace, metav1.DeleteOptions{})
		if err != nil {
			t.Errorf("remove namespace %s: %v", s.namespace, err)
		}
	})
	if err := s.Install(t.Context(), s.namespace, shared.manifests); err != nil {
		t.Fatal(err)
	}
	return s
}

// app is an app with a repository of its own.
type app struct {
	*site
	flow.App
	*flow.Repository
}

// newApp takes the app of testdata called name. Two apps of one name are two
// repositories for one Deployment.
func (s *site) newApp(t *testing.T, name string) *app {
	t.Helper()
	return s.appFrom(t, flow.App{Name: name, Overlay: "overlay"}, filepath.Join("testdata", name))
}

// appFrom makes a repository of folder's files, below about.Repository.
func (s *site) appFrom(t *testing.T, about flow.App, folder string) *app {
	t.Helper()
	about.Repository += s.namespace + "/" + strings.ToLower(rand.Text()[:10])
	repository, err := s.NewRepository(t.Context(), about.Repository, folder, filepath.Join(t.TempDir(), about.Name))
	if err != nil {
		t.Fatal(err)
	}
	return &app{s, about, repository}
}

// write and replace change files of the working copy.
func (a *app) write(t *testing.T, file, content string) {
	t.Helper()
	if err := a.Write(file, content); err != nil {
		t.Fatal(err)
	}
}

func (a *app) replace(t *testing.T, file, from, to string) {
	t.Helper()
	if err := a.Replace(file, from, to); err != nil {
		t.Fatal(err)
	}
}

// push pushes the working copy and returns the commit.
func (a *app) push(t *testing.T) string {
	t.Helper()
	commit, err := a.Push(t.Context(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return commit
}

// running is a PipelineRun under way.
type running struct {
	*site
	name string
	log  *transcript
	done chan struct{}
	run  *flow.Run
	err  error
}

// start pushes the working copy and creates a run of it: the example's, with
// changes.
func (a *app) start(t *testing.T, changes ...func(*v1.PipelineRun)) *running {
	t.Helper()
	return a.startOf(t, a.NewRun, changes)
}

// onePod does so with the example's in one pod.
func (a *app) onePod(t *testing.T, changes ...func(*v1.PipelineRun)) *running {
	t.Helper()
	return a.startOf(t, a.NewOnePodRun, changes)
}

func (a *app) startOf(t *testing.T, newRun func(namespace string, app flow.App, commit string) (*v1.PipelineRun, error), changes []func(*v1.PipelineRun)) *running {
	t.Helper()
	run, err := newRun(a.namespace, a.App, a.push(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(run)
	}
	name, err := a.Start(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	return a.follow(t, name)
}

// follow reads the log of a run. A test that fails shows it.
func (s *site) follow(t *testing.T, name string) *running {
	ctx, cancel := context.WithTimeoutCause(t.Context(), runTimeout, fmt.Errorf("PipelineRun %s has not ended after %s", name, runTimeout))
	r := &running{site: s, name: name, log: &transcript{}, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.run, r.err = s.Follow(ctx, s.namespace, name, time.Now(), r.log)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if t.Failed() {
			t.Logf("the log of PipelineRun %s:\n%s", name, r.log)
		}
	})
	return r
}

// end waits for the run's end.
func (r *running) end(t *testing.T) *flow.Run {
	t.Helper()
	<-r.done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.run
}

// reaches waits for a text in the log.
func (r *running) reaches(t *testing.T, text string) {
	t.Helper()
	err := flow.Eventually(t.Context(), runTimeout, fmt.Sprintf("%q in the log", text), func(context.Context) error {
		if strings.Contains(r.log.String(), text) {
			return nil
		}
		select {
		case <-r.done:
			t.Fatalf("PipelineRun %s has ended without %q in its log", r.name, text)
		default:
		}
		return errors.New("it is not there yet")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// succeeds runs the working copy and wants it to.
func (a *app) succeeds(t *testing.T, changes ...func(*v1.PipelineRun)) *flow.Run {
	t.Helper()
	return succeeded(t, a.start(t, changes...))
}

func succeeded(t *testing.T, r *running) *flow.Run {
	t.Helper()
	run := r.end(t)
	if !run.Succeeded() {
		t.Fatalf("PipelineRun %s: %s", run.Name, run.Message())
	}
	return run
}

// says wants a run to have failed in a step of a task with an exit code, and
// text to be the last line of its log. In text, a "…" stands for anything.
func says(t *testing.T, run *flow.Run, task, step string, code int32, text string) {
	t.Helper()
	if run.Succeeded() {
		t.Fatalf("PipelineRun %s succeeded", run.Name)
	}
	taskRun := run.Tasks[task]
	if taskRun == nil {
		t.Fatalf("task %s did not run: %s", task, run.Message())
	}
	label := task // as Follow names a task of one step
	if len(taskRun.Status.Steps) > 1 {
		label = step
	}
	for _, state := range taskRun.Status.Steps {
		if state.Name == step && (state.Terminated == nil || state.Terminated.ExitCode != code) {
			t.Errorf("step %s: %+v, want exit code %d", step, state.Terminated, code)
		}
	}
	last := ""
	for _, line := range run.Log {
		if words, ok := strings.CutPrefix(line, label+": "); ok {
			last = words
		}
	}
	if !matches(last, text) {
		t.Errorf("the last line of step %s is\n%s\nwant\n%s", step, last, text)
	}
}

// matches reports whether text is pattern, in which "…" stands for anything.
func matches(text, pattern string) bool {
	parts := strings.Split(pattern, "…")
	rest, ok := strings.CutPrefix(text, parts[0])
	for i, part := range parts[1:] {
		if !ok {
			return false
		}
		if i == len(parts)-2 {
			return strings.HasSuffix(rest, part)
		}
		_, rest, ok = strings.Cut(rest, part)
	}
	return ok && rest == ""
}

// notBuilt wants a run to have pushed nothing, as far as it tells.
func notBuilt(t *testing.T, run *flow.Run) {
	t.Helper()
	if digest := run.Result("build", "IMAGE_DIGEST"); digest != "" {
		t.Errorf("IMAGE_DIGEST is %s, and nothing was pushed", digest)
	}
	if run.Tasks["deploy"] != nil {
		t.Error("deploy ran, and nothing was pushed")
	}
}

// answers wants the app to answer path with text before long: a Service
// follows a rollout within a moment.
func (a *app) answers(t *testing.T, path, text string) {
	t.Helper()
	err := flow.Eventually(t.Context(), 20*time.Second, "the answer of "+a.Name, func(ctx context.Context) error {
		answer, err := a.Ask(ctx, a.namespace, a.Name, path)
		if err == nil && !strings.Contains(answer, text) {
			err = fmt.Errorf("the app answers %q, want %q", answer, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// deployed is what a failed run must leave as it is: the app's answer, and the
// Deployment down to its generation.
func (a *app) deployed(t *testing.T) string {
	t.Helper()
	deployment, err := a.Kube.AppsV1().Deployments(a.namespace).Get(t.Context(), a.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Ask(t.Context(), a.namespace, a.Name, "/")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("generation %d of %s answers %q", deployment.Generation, deployment.Spec.Template.Spec.Containers[0].Image, answer)
}

// onClaim is what ls says of a folder of the claim.
func (s *site) onClaim(t *testing.T, folder string) string {
	t.Helper()
	pod, err := s.Kube.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "ls-"},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "ls", Image: "busybox", ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"ls", "-A", "/claim/" + folder},
				VolumeMounts: []corev1.VolumeMount{{Name: "claim", MountPath: "/claim", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "claim", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "slipway"},
			}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = flow.Eventually(t.Context(), time.Minute, "pod "+pod.Name, func(ctx context.Context) error {
		pod, err := s.Kube.CoreV1().Pods(s.namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := s.Kube.CoreV1().Pods(s.namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(log))
}

// podGone wants a task's pod to be gone before its grace period, 30 s, could
// have made an end of it.
func (r *running) podGone(t *testing.T, task string) {
	t.Helper()
	if r.run.Tasks[task] == nil {
		t.Fatalf("task %s did not run: %s", task, r.run.Message())
	}
	name := r.run.Tasks[task].Status.PodName
	err := flow.Eventually(t.Context(), 20*time.Second, "pod "+name+" to be gone", func(ctx context.Context) error {
		pod, err := r.Kube.CoreV1().Pods(r.namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// param sets a param of a run to a string.
func param(name, value string) func(*v1.PipelineRun) {
	return func(run *v1.PipelineRun) { flow.SetParam(run, name, *v1.NewStructuredValues(value)) }
}

// timeout limits a task of a run.
func timeout(task string, limit time.Duration) func(*v1.PipelineRun) {
	return func(run *v1.PipelineRun) {
		i := slices.IndexFunc(run.Spec.TaskRunSpecs, func(s v1.PipelineTaskRunSpec) bool { return s.PipelineTaskName == task })
		if i < 0 {
			i = len(run.Spec.TaskRunSpecs)
			run.Spec.TaskRunSpecs = append(run.Spec.TaskRunSpecs, v1.PipelineTaskRunSpec{PipelineTaskName: task})
		}
		run.Spec.TaskRunSpecs[i].Timeout = &metav1.Duration{Duration: limit}
	}
}

// transcript is a log that is read while it is written.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
