package apiserver_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-ci/slipway/test/apiserver"
	"github.com/slipway-ci/slipway/test/histories"
)

// TestVersions is what the order is built on: the answers of the API server to
// a server-side apply, an update and a delete that name the version and uid of
// what they want to change. The model that the histories run against has to
// give the same.
func TestVersions(t *testing.T) {
	t.Parallel()
	server := apiserver.Start(t)
	for name, backend := range map[string]histories.Backend{"the API server": newBackend(t, server), "the model": histories.NewFake()} {
		if err := backend.MakeNamespace("versions"); err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(through(t, backend), "kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		config.ContentType = "application/json" // all that the model understands
		client := kubernetes.NewForConfigOrDie(config)
		maps := client.CoreV1().ConfigMaps("versions")
		apply := func(manager, value, version, uid string, options ...func(*metav1.PatchOptions)) (*corev1.ConfigMap, string) {
			body, err := json.Marshal(map[string]any{
				"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]string{"x": value},
				"metadata": map[string]string{"name": "feeds", "resourceVersion": version, "uid": uid},
			})
			if err != nil {
				t.Fatal(err)
			}
			patch := metav1.PatchOptions{FieldManager: manager}
			for _, option := range options {
				option(&patch)
			}
			got, err := maps.Patch(t.Context(), "feeds", types.ApplyPatchType, body, patch)
			return got, answerOf(err)
		}
		dry := func(o *metav1.PatchOptions) { o.DryRun = []string{metav1.DryRunAll} }
		force := func(o *metav1.PatchOptions) { yes := true; o.Force = &yes }
		var answers []string
		note := func(what, answer string) { answers = append(answers, what+": "+answer) }

		_, a := apply("m", "1", "7", "uid")
		note("update of what is not there", a)
		_, a = apply("m", "1", "1", "", dry)
		note("dry run of a create", a)
		first, a := apply("m", "1", "1", "")
		note("create", a)
		_, a = apply("m", "2", "1", "")
		note("create of what is there", a)
		same, a := apply("m", "1", first.ResourceVersion, string(first.UID))
		note("apply of the same", a)
		if same.ResourceVersion != first.ResourceVersion {
			t.Errorf("%s: an apply that changes nothing changes the version", name)
		}
		_, a = apply("n", "2", "", "")
		note("apply of another's field", a)
		trial, a := apply("m", "2", first.ResourceVersion, string(first.UID), dry)
		note("dry run of a change", a)
		if trial.Data["x"] != "2" {
			t.Errorf("%s: a dry run answers %v", name, trial.Data)
		}
		second, a := apply("m", "2", first.ResourceVersion, string(first.UID))
		note("change", a)
		_, a = apply("m", "3", first.ResourceVersion, string(first.UID))
		note("change of an old version", a)
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": first.ResourceVersion, "annotations": map[string]string{"t": "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = maps.Patch(t.Context(), "feeds", types.MergePatchType, body, metav1.PatchOptions{FieldManager: "t"})
		note("touch of an old version", answerOf(err))
		note("delete of an old version", answerOf(maps.Delete(t.Context(), "feeds", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &first.ResourceVersion}})))
		touched, err := maps.Patch(t.Context(), "feeds", types.MergePatchType,
			[]byte(strings.Replace(string(body), first.ResourceVersion, second.ResourceVersion, 1)), metav1.PatchOptions{FieldManager: "t"})
		note("touch", answerOf(err))
		_, a = apply("m", "3", second.ResourceVersion, string(second.UID))
		note("change after a touch", a)
		_, a = apply("n", "4", touched.ResourceVersion, string(touched.UID), force)
		note("forced", a)
		_, a = apply("m", "5", "", "")
		note("apply of what was forced away", a)
		note("delete", answerOf(maps.Delete(t.Context(), "feeds", metav1.DeleteOptions{})))
		_, a = apply("m", "3", second.ResourceVersion, string(second.UID))
		note("change of what was deleted", a)

		want := []string{
			"update of what is not there: conflict", "dry run of a create: ok", "create: ok", "create of what is there: conflict",
			"apply of the same: ok", "apply of another's field: conflict of managers", "dry run of a change: ok", "change: ok", "change of an old version: conflict",
			"touch of an old version: conflict", "delete of an old version: conflict", "touch: ok", "change after a touch: conflict",
			"forced: ok", "apply of what was forced away: conflict of managers", "delete: ok", "change of what was deleted: conflict",
		}
		if !slices.Equal(answers, want) {
			t.Errorf("%s answers\n%s\nwant\n%s", name, strings.Join(answers, "\n"), strings.Join(want, "\n"))
		}
	}
}

func answerOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsConflict(err) && apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict):
		return "conflict of managers"
	case apierrors.IsConflict(err):
		return "conflict"
	default:
		return err.Error()
	}
}
