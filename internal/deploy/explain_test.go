package deploy

import (
	"bytes"
	"encoding/json"
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
