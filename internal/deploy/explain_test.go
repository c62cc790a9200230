package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// TestTail: a container's last lines are shown whole, however long they are, and
// no more is asked for than can be shown.
func TestTail(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100<<10)
	var log bytes.Buffer
	c := connected(t.Context(), t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("limitBytes") == "" || r.URL.Query().Get("tailLines") == "" {
			t.Errorf("%s has no limit", r.URL)
		}
		_, _ = w.Write([]byte("first\n" + long + "\r\nlast")) // the client says what it got
	}, &mask{log: &log})
	c.tail(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "feed"}}, corev1.ContainerStatus{Name: "c"}, false)
	if want := "  the last lines of container c of pod p:\n  | first\n  | " + long + "\n  | last\n"; log.String() != want {
		t.Errorf("%d bytes, want %d", log.Len(), len(want))
	}
}

// TestPodsOfAnyKind: what makes pods is known by its shape: they are its own, or
// those of its newest ReplicaSet.
func TestPodsOfAnyKind(t *testing.T) {
	t.Parallel()
	meta := func(name, owner, revision string) metav1.ObjectMeta {
		by := &metav1.ObjectMeta{Name: owner, UID: types.UID(owner)}
		return metav1.ObjectMeta{
			Name: name, UID: types.UID(name), Annotations: map[string]string{"rollout.argoproj.io/revision": revision},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(by, schema.GroupVersionKind{Kind: "Any"})},
		}
	}
	c := connected(t.Context(), t, func(w http.ResponseWriter, r *http.Request) {
		var list any = &corev1.PodList{Items: []corev1.Pod{
			{ObjectMeta: meta("of-set-1", "set-1", "")}, {ObjectMeta: meta("of-set-2", "set-2", "")}, {ObjectMeta: meta("of-clone", "clone", "")},
		}}
		if strings.HasSuffix(r.URL.Path, "/replicasets") {
			list = &appsv1.ReplicaSetList{Items: []appsv1.ReplicaSet{{ObjectMeta: meta("set-2", "rollout", "2")}, {ObjectMeta: meta("set-1", "rollout", "1")}}}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list) // the client says what it got
	}, &mask{log: &bytes.Buffer{}})
	const shape = "spec: {selector: {matchLabels: {app: feed}}, template: {spec: {containers: []}}}\n"
	for manifest, want := range map[string]string{
		"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r, namespace: feed, uid: rollout}\n" + shape:           "of-set-2",
		"apiVersion: apps.kruise.io/v1alpha1\nkind: CloneSet\nmetadata: {name: c, namespace: feed, uid: clone}\n" + shape:         "of-clone",
		"apiVersion: slipway.test/v1\nkind: Feed\nmetadata: {name: f, namespace: feed, uid: rollout}\nspec: {template: {a: b}}\n": "",
	} {
		pods, _, err := c.pods(t.Context(), parse(t, manifest))
		var got string
		for _, pod := range pods {
			got += pod.Name
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", manifest, got, err, want)
		}
	}
}

// TestTrouble: what keeps a pod is said, and nothing of one that is on its way.
func TestTrouble(t *testing.T) {
	t.Parallel()
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	ended := func(code int32, reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for name, tc := range map[string]struct {
		status corev1.PodStatus
		want   string
	}{
		"nothing known": {corev1.PodStatus{}, ""},
		"no node": {
			corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available"}}},
			"pod p cannot be scheduled: 0/1 nodes are available",
		},
		"created": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", State: waiting("ContainerCreating", "")}}}, ""},
		"runs":    {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", State: running}}}, ""},
		"runs again": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: running, LastTerminationState: ended(1, "Error", "")},
		}}, ""},
		"init is done": {corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "init", State: ended(0, "Completed", "")}},
			ContainerStatuses:     []corev1.ContainerStatus{{Name: "app", State: running}},
		}, ""},
		"backs off": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", RestartCount: 3, State: waiting("CrashLoopBackOff", "back-off 40s"), LastTerminationState: ended(2, "Error", "")},
		}}, "container app of pod p exits with code 2"},
		"has just crashed": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: ended(2, "Error", "")},
		}}, "container app of pod p exits with code 2"},
		"has no such program": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: waiting("CrashLoopBackOff", "back-off 10s"), LastTerminationState: ended(128, "StartError", "exec: no such file\nmore")},
		}}, "container app of pod p cannot be started: exec: no such file"},
		"out of memory": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: waiting("CrashLoopBackOff", "back-off 10s"), LastTerminationState: ended(137, "OOMKilled", "")},
		}}, "container app of pod p is killed for using more memory than its limit"},
		"no image, beside one that runs": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: running}, {Name: "other", State: waiting("ImagePullBackOff", `Back-off pulling image "x"`)},
		}}, `container other of pod p waits: ImagePullBackOff: Back-off pulling image "x"`},
		"backs off, nobody knows why": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: waiting("CrashLoopBackOff", "back-off 10s")},
		}}, "container app of pod p waits: CrashLoopBackOff"},
		"no word": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", State: waiting("CreateContainerError", "")}}}, "container app of pod p waits: CreateContainerError"},
		"no image any more": {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", State: waiting("ErrImagePull", "not found"), LastTerminationState: ended(1, "Error", "")},
		}}, "container app of pod p waits: ErrImagePull: not found"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: tc.status}
		if got, ok := troubleOf(pod); got.text != tc.want || ok != (tc.want != "") {
			t.Errorf("%s: %q, %t, want %q", name, got.text, ok, tc.want)
		}
	}
}

// TestHintsOnce: what keeps pods is told once, whatever the words and the pod,
// and pods that cannot be read are no reason to stop waiting.
func TestHintsOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	asked := 0
	c := connected(t.Context(), t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/pods") {
			asked++
		}
		if asked == 1 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		reason, message := "ErrImagePull", fmt.Sprintf("from port %d: not found", asked)
		if asked%2 == 1 {
			reason, message = "ImagePullBackOff", "backing off"
		}
		_ = json.NewEncoder(w).Encode(&corev1.PodList{Items: []corev1.Pod{{ // the client says what it got
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", asked), OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "feed", UID: "feed"}, schema.GroupVersionKind{Kind: "StatefulSet"}),
			}},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
			}}},
		}}})
	}, &mask{log: &log})
	object := parse(t, "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: feed, namespace: feed, uid: feed}\n"+
		"spec: {selector: {matchLabels: {app: feed}}, template: {spec: {containers: []}}}\n")
	left, told := []pending{{target: &target{object: object, after: object}}}, map[string]bool{}
	for range 4 {
		c.hint(t.Context(), left, told)
	}
	if want := "statefulset.apps/feed: container app of pod p2 waits: ErrImagePull: from port 2: not found\n"; log.String() != want {
		t.Errorf("%q, want %q", log.String(), want)
	}
}
