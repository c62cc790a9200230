package apiserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/slipway-ci/slipway/test/apiserver"
)

// fixture is a source with an overlay, and a namespace, to deploy.
type fixture struct {
	admin     *kubernetes.Clientset
	server    *apiserver.Server
	binary    string
	namespace string
	source    string
	results   string
	env       map[string]string
	args      []string // besides the images
}

const service = `apiVersion: v1
kind: Service
metadata:
  name: feed-agg
spec:
  selector:
    app: feed-agg
  ports:
  - port: 80
`

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: feed-agg
spec:
  selector:
    matchLabels:
      app: feed-agg
  template:
    metadata:
      labels:
        app: feed-agg
    spec:
      containers:
      - name: feed-agg
        image: feed-agg
`

const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: feeds.slipway.test
spec:
  group: slipway.test
  scope: Namespaced
  names:
    kind: Feed
    plural: feeds
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              url:
                type: string
`

func configMap(name, feeds string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  feeds: %q\n", name, feeds)
}

// overlay writes an overlay of manifests to the source.
func (f *fixture) overlay(t *testing.T, manifests ...string) {
	t.Helper()
	dir := filepath.Join(f.source, "overlay")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"kustomization.yaml": "resources: [all.yaml]\n",
		"all.yaml":           strings.Join(manifests, "---\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fixture) createNamespace(t *testing.T) {
	t.Helper()
	_, err := f.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// actAs makes the deploy a user with rules in its namespace and no other right.
func (f *fixture) actAs(t *testing.T, rules ...rbacv1.PolicyRule) {
	t.Helper()
	f.env["WORKSPACE_KUBECONFIG_PATH"] = f.server.Kubeconfig(t, "deployer", "system:authenticated")
	name := metav1.ObjectMeta{Name: "deployer"}
	if _, err := f.admin.RbacV1().Roles(f.namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: name, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: name,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "deployer"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "deployer"}},
	}
	if _, err := f.admin.RbacV1().RoleBindings(f.namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) setStatus(t *testing.T, set func(*appsv1.Deployment)) {
	t.Helper()
	deployments := f.admin.AppsV1().Deployments(f.namespace)
	d, err := deployments.Get(t.Context(), "feed-agg", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	set(d)
	if _, err := deployments.UpdateStatus(t.Context(), d, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func rolledOut(generation int64) appsv1.DeploymentStatus {
	return appsv1.DeploymentStatus{
		ObservedGeneration: generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1,
		Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"},
		},
	}
}

func event(reason, message string) *corev1.Event {
	return &corev1.Event{Type: corev1.EventTypeWarning, Reason: reason, Message: message}
}

// rollout deploys an app whose new version does not become ready, as its
// controller and its node would show it: the old ReplicaSet, the new one, and
// the new one's pod in the state that set gives it, if it is not nil. The
// events are about that pod, or about the ReplicaSet where there is none.
func (f *fixture) rollout(t *testing.T, set func(*corev1.Pod), events ...*corev1.Event) output {
	t.Helper()
	f.overlay(t, deployment)
	return f.rolloutOf(t, set, events...)
}

// rolloutOf is rollout of the overlay that is there.
func (f *fixture) rolloutOf(t *testing.T, set func(*corev1.Pod), events ...*corev1.Event) output {
	t.Helper()
	f.env["PARAM_TIMEOUT"] = "4s"
	d := f.start(t, "feed-agg=r.test/feed-agg@"+digest)
	d.until(t, "deployment.apps/feed-agg: Replicas: 0/1")

	live, err := f.admin.AppsV1().Deployments(f.namespace).Get(t.Context(), "feed-agg", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var newest metav1.Object
	about := corev1.ObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: f.namespace}
	for _, revision := range []string{"1", "2"} {
		newest, err = f.admin.AppsV1().ReplicaSets(f.namespace).Create(t.Context(), &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{
				Name: "feed-agg-" + revision, Labels: live.Spec.Template.Labels,
				Annotations:     map[string]string{"deployment.kubernetes.io/revision": revision},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(live, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
			},
			Spec: appsv1.ReplicaSetSpec{Selector: live.Spec.Selector, Template: live.Spec.Template},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	about.Name, about.UID = newest.GetName(), newest.GetUID()
	if set != nil {
		pod, err := f.admin.CoreV1().Pods(f.namespace).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "feed-agg-2-x", Labels: live.Spec.Template.Labels,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(newest, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))},
			},
			Spec: live.Spec.Template.Spec,
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		set(pod)
		if pod, err = f.admin.CoreV1().Pods(f.namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		about = corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: f.namespace, Name: pod.Name, UID: pod.UID}
	}
	for _, event := range events {
		event.GenerateName, event.InvolvedObject = "event-", about
		if _, err := f.admin.CoreV1().Events(f.namespace).Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	f.setStatus(t, func(d *appsv1.Deployment) {
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1}
	})
	return d.wait(t)
}

// wantNothing fails if the deploy wrote anything to its namespace.
func (f *fixture) wantNothing(t *testing.T) {
	t.Helper()
	maps, err := f.admin.CoreV1().ConfigMaps(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	services, err := f.admin.CoreV1().Services(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	deployments, err := f.admin.AppsV1().Deployments(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(maps.Items) + len(services.Items) + len(deployments.Items); n != 0 {
		t.Errorf("%d objects were applied before the deploy stopped", n)
	}
}

func (f *fixture) wantChanges(t *testing.T, want string) {
	t.Helper()
	got, err := os.ReadFile(f.env["RESULT_CHANGES_PATH"])
	if err != nil || string(got) != want {
		t.Errorf("result changes: %q, %v; want %q", got, err, want)
	}
}

func (f *fixture) wantNoChanges(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(f.env["RESULT_CHANGES_PATH"]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("result changes was written: %v", err)
	}
}

// run deploys images and waits for the end.
func (f *fixture) run(t *testing.T, images ...string) output {
	t.Helper()
	return f.start(t, images...).wait(t)
}

func (f *fixture) start(t *testing.T, images ...string) *deploy {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), f.binary, slices.Concat([]string{"--images"}, images, f.args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, key := range slices.Sorted(maps.Keys(f.env)) {
		cmd.Env = append(cmd.Env, key+"="+f.env[key])
	}
	d := &deploy{cmd: cmd, written: make(chan struct{}, 1), ended: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = d, d
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- cmd.Wait() }()
	return d
}

// deploy is a running deploy, and the writer of its log.
type deploy struct {
	cmd     *exec.Cmd
	written chan struct{}
	ended   chan error

	mu  sync.Mutex
	log bytes.Buffer
}

func (d *deploy) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case d.written <- struct{}{}:
	default:
	}
	return d.log.Write(p)
}

func (d *deploy) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// until waits for a text in the log.
func (d *deploy) until(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(d.String(), text) {
		select {
		case <-d.written:
		case err := <-d.ended:
			t.Fatalf("it ended (%v) before it logged %q:\n%s", err, text, d)
		}
	}
}

func (d *deploy) wait(t *testing.T) output {
	t.Helper()
	var err error
	select {
	case err = <-d.ended:
	case <-time.After(2 * time.Minute):
		t.Fatalf("it does not end:\n%s", d)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return output{code: d.cmd.ProcessState.ExitCode(), stderr: d.String()}
}

// output is what a deploy that has ended leaves.
type output struct {
	code   int
	stderr string
}

func (o output) wantCode(t *testing.T, code int) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d:\n%s", o.code, code, o.stderr)
	}
}

var duration = regexp.MustCompile(`after \d+s`)

// want compares the exit code and the last line of the log, where a time that
// was waited may be written as <time>.
func (o output) want(t *testing.T, code int, last string) {
	t.Helper()
	o.wantCode(t, code)
	lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
	got := lines[len(lines)-1]
	if strings.Contains(last, "<time>") {
		got = duration.ReplaceAllString(got, "after <time>")
	}
	if got != last {
		t.Errorf("last line:\n%s\nwant:\n%s\nall of it:\n%s", got, last, o.stderr)
	}
}

func (o output) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("the log has no %q:\n%s", text, o.stderr)
		}
	}
}

func build(t *testing.T, command string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), filepath.Base(command))
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, command).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", command, err, output)
	}
	return binary
}
