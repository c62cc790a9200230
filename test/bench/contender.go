package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// contender is one way from a change to a running app.
type contender interface {
	// install makes what its runs of an app need. Done again it changes
	// nothing.
	install(context.Context, *site) error
	// forget empties its caches, so that the next run is a cold one.
	forget(context.Context, *site) error
	// run builds and rolls out the source that the site's repository has.
	run(context.Context, *site, *observer) (outcome, error)
}

// outcome is what only the contender knows of its run.
type outcome struct {
	total, build time.Duration // 0 is not known
	cpu          time.Duration // of commands outside of pods
	compiled     *int
	phases       []phase
	started      map[string]time.Time // Tekton's steps, by container
}

// contestant is a contender with what the schedule needs to know.
type contestant struct {
	contender
	about string
	// alwaysCold contenders keep nothing from one run to the next: one run of
	// each case is enough, and none needs a warm-up.
	alwaysCold bool
	// cases that have a meaning for it; nil for all.
	cases []string
}

// site is where a contender builds an app: a namespace, a repository and an
// image of its own, so that nobody finds what another has left.
type site struct {
	*flow.Cluster
	contender, size string
	app             app
	namespace       string
	service         int // of several that share the site's claim, from 1; 0 is the only one
	repo            *flow.Repository
	resolved        string   // Slipway's tasks and pipelines, with their images
	slipway         string   // the SHA-256 of these
	gos             []string // versions of Go that have an image; "" is the usual one
	logs            string   // of the run under way
	built           source   // by the run under way
	state           state
}

// state is what is known of a site's caches. It is an annotation of its
// namespace, and goes with them.
type state struct {
	// Built is the source that was built last, with what the caches hold of it;
	// nil if they may hold anything or nothing.
	Built *source `json:"built"`
	// Generation is another each time that the caches were emptied.
	Generation int `json:"generation"`
	// Services is how many services of the site have been built.
	Services int `json:"services,omitempty"`
	// Slipway built it, by its manifests.
	Slipway string `json:"slipway,omitempty"`
}

const stateAnnotation = "slipway-ci.github.io/bench"

// load reads the state, which a new site does not have. What another Slipway
// has built is not unchanged for this one.
func (s *site) load(ctx context.Context) error {
	namespace, err := s.Kube.CoreV1().Namespaces().Get(ctx, s.namespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	text := namespace.Annotations[stateAnnotation]
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &s.state); err != nil {
		return err
	}
	if s.state.Slipway != s.slipway {
		s.state = state{Generation: s.state.Generation}
	}
	return nil
}

func (s *site) save(ctx context.Context, next state) error {
	next.Slipway = s.slipway
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{stateAnnotation: string(text)}}})
	if err != nil {
		return err
	}
	if _, err := s.Kube.CoreV1().Namespaces().Patch(ctx, s.namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	s.state = next
	return nil
}

func newSite(ctx context.Context, c *flow.Cluster, contender, size, resolved, work string) (*site, error) {
	s := &site{
		Cluster: c, contender: contender, size: size, app: apps[size], resolved: resolved,
		namespace: "bench-" + contender + "-" + size,
	}
	var err error
	s.repo, err = c.NewRepository(ctx, s.repository(), filepath.Join(cluster.Root(), s.app.dir), filepath.Join(work, contender, size))
	return s, err
}

// repository is the site's on the git server.
func (s *site) repository() string { return "bench/" + s.contender + "-" + s.size + s.suffix() }

// suffix tells apart the services of one site.
func (s *site) suffix() string {
	if s.service == 0 {
		return ""
	}
	return fmt.Sprintf("-%d", s.service)
}

// deployment is the name of the Deployment and of the Service.
func (s *site) deployment() string { return s.app.name + s.suffix() }

// overlay is where the overlay of the benchmarks is in each repository.
const overlay = "kustomize/overlays/bench"

// image is the repository that the site pushes to, in the registry at host.
func (s *site) image(host string) string {
	return host + "/bench/" + s.contender + "/" + s.deployment()
}

// caches is a folder of the node for those who keep their caches in one.
func (s *site) caches() string {
	return filepath.Join(cluster.StateDir, "bench", s.contender, s.size)
}

// write makes the source the repository's. Beside the app's own files there is
// what any of the contenders needs, the same for all: an overlay for the site's
// namespace, and a .dockerignore, since caches of layers would not stand a
// commit that changes nothing.
func (s *site) write(src source) error {
	s.built = src
	if err := src.write(s.app, s.repo.Dir()); err != nil {
		return err
	}
	for file, content := range map[string]string{
		".dockerignore": ".git\n",
		overlay + "/kustomization.yaml": fmt.Sprintf(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: %s
nameSuffix: %q
labels:
  - pairs: {slipway-ci.github.io/service: "%d"}
    includeSelectors: true
resources: [../../base]
`, s.namespace, s.suffix(), s.service),
	} {
		if err := s.repo.Write(file, content); err != nil {
			return err
		}
	}
	return nil
}

// steps fills in the phases of a run of Tekton's, from the times that its
// entrypoint leaves in the pods: what passes before the first step of a task,
// and each of its steps.
func (s *site) steps(ctx context.Context, run *flow.Run, start time.Time, o *outcome) error {
	o.started = map[string]time.Time{}
	at := start
	for _, task := range tasksOf(run) {
		taskRun := run.Tasks[task]
		pod, err := s.Kube.CoreV1().Pods(s.namespace).Get(ctx, taskRun.Status.PodName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		name := task + ": pod"
		for _, step := range taskRun.Status.Steps {
			started, err := startedAt(pod, step.Container)
			if err != nil {
				return err
			}
			o.started[step.Container] = started
			o.phases = append(o.phases, phase{name, seconds(started.Sub(at))})
			at, name = started, task+": "+step.Name
		}
		o.phases = append(o.phases, phase{name, seconds(run.Ended[task].Sub(at))})
		at = run.Ended[task]
	}
	return nil
}

// onePodTask is the one task of the pipeline slipway-one-pod.
const onePodTask = "run"

// tasksOf are the tasks from the commit until it is rolled out, one after the
// other.
func tasksOf(run *flow.Run) []string {
	if run.Tasks[onePodTask] != nil {
		return []string{onePodTask}
	}
	return []string{"fetch", "build", "deploy"}
}

// startedAt is when a step began, in milliseconds: Kubernetes itself counts in
// seconds.
func startedAt(pod *corev1.Pod, container string) (time.Time, error) {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == container && status.State.Terminated != nil {
			return parseStartedAt(status.State.Terminated.Message)
		}
	}
	return time.Time{}, fmt.Errorf("container %s of pod %s has not ended", container, pod.Name)
}

// parseStartedAt reads what Tekton's entrypoint leaves in a container's termination
// message: https://github.com/tektoncd/pipeline/blob/main/pkg/result/result.go.
func parseStartedAt(message string) (time.Time, error) {
	var stamps []struct{ Key, Value string }
	if err := json.Unmarshal([]byte(message), &stamps); err != nil {
		return time.Time{}, fmt.Errorf("read the termination message %q: %w", message, err)
	}
	for _, stamp := range stamps {
		if stamp.Key == "StartedAt" {
			return time.Parse(time.RFC3339Nano, stamp.Value)
		}
	}
	return time.Time{}, fmt.Errorf("termination message %q has no StartedAt", message)
}

// seconds rounds to what the clocks are good for.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*100) / 100 }

// emptyFolder takes away what is in a folder of the node.
func emptyFolder(dir string) error {
	if !strings.HasPrefix(dir, cluster.StateDir+"/") {
		return fmt.Errorf("empty %s: it is not of the local cluster", dir)
	}
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	if err := os.MkdirAll(trash, 0o755); err != nil {
		return err
	}
	aside, err := os.MkdirTemp(trash, "")
	if err != nil {
		return err
	}
	for _, entry := range found {
		if err := os.Rename(filepath.Join(dir, entry.Name()), filepath.Join(aside, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// trash has what was emptied, until the benchmarks end: ext4 takes no inode that
// was deleted within the last minute, and searches long among thousands of them
// for others, which would be in the time of whose caches were the largest.
var trash = filepath.Join(cluster.StateDir, "bench-trash")
