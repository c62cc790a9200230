package deploy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

const (
	explainTimeout = 10 * time.Second // to ask the cluster why something is not ready
	eventLines     = 5                // the newest warnings shown for an object
	logLines       = 20               // the last lines shown of a container
	logBytes       = 256 << 10        // at most of them
)

// explain logs what is known of each object that did not become ready: its
// warnings and its containers' last lines. The error is about the first, with
// the one likely cause and what to do next.
func (c *cluster) explain(ctx context.Context, waiting []pending, waited time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	var likely reason
	for i, p := range waiting {
		logf(c.log, "\n%s: %s", located(p.object), p.message)
		if why := c.why(ctx, p); i == 0 {
			likely = why
		}
	}
	first := waiting[0]
	others := ""
	if n := len(waiting) - 1; n > 0 {
		others = fmt.Sprintf(" (and %d more)", n)
	}
	return fmt.Errorf("%s%s is not ready after %s: %s; %s", located(first.object), others, waited.Round(time.Second), likely.cause, likely.next)
}

// reason is why an object is not ready, and what to do about it.
type reason struct{ cause, next string }

// why logs what the cluster tells about p and picks its likely cause.
func (c *cluster) why(ctx context.Context, p pending) reason {
	warnings := c.warnings(ctx, p.after.GetNamespace(), p.after.GetUID())
	pods, controllers, err := c.pods(ctx, p.after)
	if err != nil {
		logf(c.log, "  its pods could not be read: %v", err)
	}
	for i := range pods {
		if why, found := c.podReason(ctx, &pods[i]); found {
			return why
		}
	}
	for _, controller := range controllers {
		warnings = append(warnings, c.warnings(ctx, p.after.GetNamespace(), controller)...)
	}
	if len(pods) == 0 && len(warnings) > 0 {
		newest := warnings[len(warnings)-1]
		return reason{newest, remedy(newest)}
	}
	if p.failed {
		return reason{p.message, "deploy again once that is mended"}
	}
	if _, found, err := unstructured.NestedInt64(p.after.Object, "status", "observedGeneration"); !found && err == nil && hasPods(p.after) {
		return reason{p.message + ", and no controller has acted on it", "check that the cluster's controller manager runs"}
	}
	return reason{p.message, "raise the param timeout if it only needs longer"}
}

// hasPods reports whether an object has the shape of what makes pods, of any
// kind: a template of them, and a selector that finds them again.
func hasPods(object *unstructured.Unstructured) bool {
	_, template, _ := unstructured.NestedMap(object.Object, "spec", "template", "spec")
	_, selector, _ := unstructured.NestedMap(object.Object, "spec", "selector")
	return template && selector
}

// warnings logs the newest warnings about an object and returns all, oldest
// first.
func (c *cluster) warnings(ctx context.Context, namespace string, uid types.UID) []string {
	list, err := c.core.Events(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.uid": string(uid), "type": corev1.EventTypeWarning}.String(),
	})
	if err != nil {
		logf(c.log, "  its events could not be read: %v", err)
		return nil
	}
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return last(a).Compare(last(b)) })
	var lines []string
	for i, event := range list.Items {
		line := event.Reason + ": " + strings.TrimSpace(event.Message)
		lines = append(lines, line)
		if i >= len(list.Items)-eventLines {
			logf(c.log, "  %s/%s %s", strings.ToLower(event.InvolvedObject.Kind), event.InvolvedObject.Name, line)
		}
	}
	return lines
}

// last is when an event was last seen; who reports it decides which field says so.
func last(event corev1.Event) time.Time {
	return slices.MaxFunc([]time.Time{event.LastTimestamp.Time, event.EventTime.Time, event.CreationTimestamp.Time}, time.Time.Compare)
}

// pods are the pods of a workload's newest revision, and the ReplicaSet
// between if there is one.
func (c *cluster) pods(ctx context.Context, object *unstructured.Unstructured) ([]corev1.Pod, []types.UID, error) {
	if object.GroupVersionKind().GroupKind().String() == "Pod" {
		var pod corev1.Pod
		err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &pod)
		return []corev1.Pod{pod}, nil, err
	}
	if !hasPods(object) {
		return nil, nil, nil
	}
	var workload struct {
		Spec struct {
			Selector *metav1.LabelSelector `json:"selector"`
		} `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &workload); err != nil {
		return nil, nil, err
	}
	if workload.Spec.Selector == nil {
		return nil, nil, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(workload.Spec.Selector)
	if err != nil {
		return nil, nil, err
	}
	selected := metav1.ListOptions{LabelSelector: selector.String()}
	list, err := c.core.Pods(object.GetNamespace()).List(ctx, selected)
	if err != nil {
		return nil, nil, err
	}
	pods := controlled(list.Items, object.GetUID())
	if len(pods) > 0 {
		return pods, nil, nil
	}
	// As a Deployment, whatever it is may have ReplicaSets that make them.
	sets, err := c.apps.ReplicaSets(object.GetNamespace()).List(ctx, selected)
	if err != nil {
		return nil, nil, err
	}
	newest := newestRevision(sets.Items, object.GetUID())
	if newest == nil {
		return nil, nil, nil
	}
	return controlled(list.Items, newest.UID), []types.UID{newest.UID}, nil
}

// controlled are those of pods that owner made, the oldest first.
func controlled(pods []corev1.Pod, owner types.UID) (own []corev1.Pod) {
	for i := range pods {
		if controlledBy(&pods[i], owner) {
			own = append(own, pods[i])
		}
	}
	slices.SortFunc(own, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return own
}

// newestRevision is the ReplicaSet that a Deployment, or what is like one, is
// rolling out.
func newestRevision(sets []appsv1.ReplicaSet, owner types.UID) *appsv1.ReplicaSet {
	var newest *appsv1.ReplicaSet
	for i := range sets {
		set := &sets[i]
		if controlledBy(set, owner) && (newest == nil || revision(set) > revision(newest)) {
			newest = set
		}
	}
	return newest
}

func revision(set *appsv1.ReplicaSet) int {
	var n int
	// Without the annotation it counts as the oldest.
	_, _ = fmt.Sscan(cmp.Or(set.Annotations["deployment.kubernetes.io/revision"], set.Annotations["rollout.argoproj.io/revision"]), &n)
	return n
}

func controlledBy(object metav1.Object, owner types.UID) bool {
	controller := metav1.GetControllerOf(object)
	return controller != nil && controller.UID == owner
}

// podReason logs what is wrong with a pod that is not ready and names the
// cause.
func (c *cluster) podReason(ctx context.Context, pod *corev1.Pod) (reason, bool) {
	if condition(pod, corev1.PodReady).Status == corev1.ConditionTrue {
		return reason{}, false
	}
	warnings := c.warnings(ctx, pod.Namespace, pod.UID)
	if why := unschedulable(pod); why != "" {
		return reason{why, "lower its requests, mend its selectors and tolerations, or add a node"}, true
	}
	for _, state := range states(pod) {
		if why, found := c.containerReason(ctx, pod, state, warnings); found {
			return why, true
		}
	}
	return reason{}, false
}

// condition is the pod's one of a type, or an empty one.
func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition
		}
	}
	return corev1.PodCondition{}
}

// unschedulable says why a pod has no node; "" where it has one.
func unschedulable(pod *corev1.Pod) string {
	scheduled := condition(pod, corev1.PodScheduled)
	if scheduled.Status != corev1.ConditionFalse {
		return ""
	}
	return fmt.Sprintf("pod %s cannot be scheduled: %s", pod.Name, scheduled.Message)
}

// states are those of a pod's containers, what explains most first: a crash
// says more than the back-off after it, and both more than a probe.
func states(pod *corev1.Pod) []corev1.ContainerStatus {
	all := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	slices.SortStableFunc(all, func(a, b corev1.ContainerStatus) int { return cmp.Compare(rank(a), rank(b)) })
	return all
}

// rank orders container states by how much they explain.
func rank(state corev1.ContainerStatus) int {
	switch {
	case state.State.Waiting != nil && state.State.Waiting.Reason != "PodInitializing" && state.State.Waiting.Reason != "ContainerCreating":
		return rankKept
	case state.State.Terminated != nil && state.State.Terminated.ExitCode != 0:
		return rankEnded
	case state.State.Running != nil:
		return rankRuns
	default:
		return rankStarts
	}
}

const (
	rankKept   = iota // from starting
	rankEnded         // by a failure
	rankRuns          // but may not be ready
	rankStarts        // or has ended as it should
)

// hint logs what keeps the pods of objects that are waited for: the status of a
// Deployment does not say it, and it may be mended meanwhile. told are the hints
// so far; what keeps several pods of an object, or one again, is told once.
func (c *cluster) hint(ctx context.Context, waiting []pending, told map[string]bool) {
	found := make([][]trouble, len(waiting))
	_ = each(indices(waiting), true, func(i int) error {
		pods, _, _ := c.pods(ctx, waiting[i].after) // explain says that they cannot be read, if it comes to that
		for j := range pods {
			if t, ok := troubleOf(&pods[j]); ok {
				found[i] = append(found[i], t)
			}
		}
		return nil
	})
	for i, troubles := range found {
		object := called(waiting[i].object)
		for _, t := range troubles {
			if key := object + " " + t.kind; !told[key] {
				told[key] = true
				logf(c.log, "%s: %s", object, t.text)
			}
		}
	}
}

// trouble is what keeps a pod from being ready.
type trouble struct {
	kind string // the same each time that it happens, and in each pod
	text string
}

// troubleOf is a pod's, as far as its status says it; !ok if there is none, as
// of one that starts or runs.
func troubleOf(pod *corev1.Pod) (t trouble, ok bool) {
	if why := unschedulable(pod); why != "" {
		return trouble{"unschedulable", why}, true
	}
	all := states(pod)
	if len(all) == 0 || rank(all[0]) > rankEnded {
		return trouble{}, false
	}
	worst := all[0]
	in := fmt.Sprintf("container %s of pod %s", worst.Name, pod.Name)
	waiting, ended := worst.State.Waiting, lastEnd(worst)
	backsOff := waiting != nil && waiting.Reason == "CrashLoopBackOff"
	if ended != nil && (waiting == nil || backsOff) {
		return trouble{fmt.Sprintf("%s %s %d", worst.Name, ended.Reason, ended.ExitCode), in + " " + howEnded(ended)}, true
	}
	kind, text := waiting.Reason, in+" waits: "+waiting.Reason
	if isPull(waiting) {
		kind = "pull" // a failure and the back-off after it take turns
	}
	if waiting.Message != "" && !backsOff { // that says how long, each time longer
		text += ": " + firstLine(waiting.Message)
	}
	return trouble{worst.Name + " " + kind, text}, true
}

// lastEnd is how a container ended last; nil if it never has.
func lastEnd(state corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	return cmp.Or(state.State.Terminated, state.LastTerminationState.Terminated)
}

// isPull reports whether a container waits for its image.
func isPull(waiting *corev1.ContainerStateWaiting) bool {
	return strings.Contains(waiting.Reason, "Image") || waiting.Reason == "RegistryUnavailable"
}

// howEnded is how a container has ended.
func howEnded(ended *corev1.ContainerStateTerminated) string {
	switch ended.Reason {
	case "OOMKilled":
		return "is killed for using more memory than its limit"
	case "StartError":
		return "cannot be started: " + firstLine(ended.Message)
	default:
		return fmt.Sprintf("exits with code %d", ended.ExitCode)
	}
}

func (c *cluster) containerReason(ctx context.Context, pod *corev1.Pod, state corev1.ContainerStatus, warnings []string) (reason, bool) {
	in := fmt.Sprintf("container %s of pod %s", state.Name, pod.Name)
	ended := lastEnd(state)
	switch waiting := state.State.Waiting; {
	case waiting != nil && isPull(waiting):
		why := waiting.Message
		// A back-off's message says only that it backs off; the event has the cause.
		for _, warning := range warnings {
			if strings.Contains(warning, "Failed to pull image") {
				why = warning
			}
		}
		return reason{
			fmt.Sprintf("%s: its image %s cannot be pulled: %s", in, state.Image, firstLine(why)),
			"check that the image exists and that the nodes may pull from its registry",
		}, true
	case waiting != nil && strings.HasPrefix(waiting.Reason, "Create"):
		return reason{fmt.Sprintf("%s cannot be created: %s", in, waiting.Message), "create what it refers to, or mend the reference"}, true
	case ended != nil && (ended.ExitCode != 0 || waiting != nil):
		c.tail(ctx, pod, state, state.State.Terminated == nil)
		return reason{
			fmt.Sprintf("%s %s, restarted %d times", in, howEnded(ended), state.RestartCount),
			"its last lines are above",
		}, true
	case state.State.Running != nil && !state.Ready:
		c.tail(ctx, pod, state, false)
		for _, warning := range slices.Backward(warnings) {
			if strings.HasPrefix(warning, "Unhealthy: ") {
				return reason{
					fmt.Sprintf("%s runs but is not ready: %s", in, firstLine(strings.TrimPrefix(warning, "Unhealthy: "))),
					"mend the app or its probe; its last lines are above",
				}, true
			}
		}
		return reason{in + " runs but is not ready", "raise the param timeout if it only needs longer; its last lines are above"}, true
	}
	return reason{}, false
}

// tail logs the last lines of a container, or of its previous run.
func (c *cluster) tail(ctx context.Context, pod *corev1.Pod, state corev1.ContainerStatus, previous bool) {
	lines, limit := int64(logLines), int64(logBytes)
	text, err := c.core.Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
		Container: state.Name, Previous: previous && state.RestartCount > 0, TailLines: &lines, LimitBytes: &limit,
	}).DoRaw(ctx)
	if err != nil {
		logf(c.log, "  the log of container %s of pod %s could not be read: %v", state.Name, pod.Name, err)
		return
	}
	logf(c.log, "  the last lines of container %s of pod %s:", state.Name, pod.Name)
	for line := range strings.Lines(string(text)) {
		logf(c.log, "  | %s", strings.TrimRight(line, "\r\n"))
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
