package apiserver_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-ci/slipway/internal/step"
)

var pruneCases = map[string]func(*testing.T, *fixture){
	"pruned":               prunedCase,
	"not-ours":             notOurs,
	"never-pruned":         neverPruned,
	"allowed-pruned":       allowedPruned,
	"prune-off":            pruneOff,
	"lost-inventory":       lostInventory,
	"damaged-inventory":    damagedInventory,
	"empty-render":         emptyRender,
	"not-before-ready":     notBeforeReady,
	"another-deploys":      anotherDeploys,
	"another-deploys-kept": anotherDeploysKept,
	"delete-verb":          deleteVerb,
	"delete-without":       deleteWithout,
	"delete-by-image":      deleteByImage,
	"deleted-stays-so":     deletedStaysSo,
	"pruned-out-of-render": prunedKindGone,
}

const claim = `apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
`

// there are the ConfigMaps of the namespace but for inventories.
func (f *fixture) there(t *testing.T) string {
	t.Helper()
	list, err := f.admin.CoreV1().ConfigMaps(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, item := range list.Items {
		if !strings.HasPrefix(item.Name, "slipway-deploy-") {
			names = append(names, item.Name)
		}
	}
	return strings.Join(names, " ")
}

func (f *fixture) wantThere(t *testing.T, want string) {
	t.Helper()
	if got := f.there(t); got != want {
		t.Errorf("there are the config maps %q, want %q", got, want)
	}
}

func prunedCase(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"), configMap("b", "1"), service)
	f.run(t).wantCode(t, 0)
	f.overlay(t, configMap("a", "1"))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "service/feed-agg pruned", "configmap/b pruned", "configmap/a unchanged")
	f.wantChanges(t, "0 created, 0 configured, 1 unchanged, 2 pruned")
	f.wantThere(t, "a")
	f.run(t)
	f.wantChanges(t, "0 created, 0 configured, 1 unchanged")
}

// notOurs: what somebody made their own since is left alone.
func notOurs(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"), configMap("b", "1"), configMap("c", "1"))
	f.run(t).wantCode(t, 0)
	maps := f.admin.CoreV1().ConfigMaps(f.namespace)
	if _, err := maps.Patch(t.Context(), "b", types.MergePatchType, []byte(`{"metadata":{"labels":{"slipway-ci.github.io/deploy":null}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// Deleted and made again by hand, labels and all.
	was, err := maps.Get(t.Context(), "c", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	was.ResourceVersion, was.UID, was.ManagedFields = "", "", nil
	if _, err := maps.Create(t.Context(), was, metav1.CreateOptions{FieldManager: "by-hand"}); err != nil {
		t.Fatal(err)
	}
	f.overlay(t, configMap("a", "1"))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "configmap/b left the overlay and is kept: its labels do not say that it belongs to this deploy",
		"configmap/c left the overlay and is kept: no field of it is managed by slipway")
	f.wantThere(t, "a b c")
}

func neverPruned(t *testing.T, f *fixture) {
	namespace := "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: never-pruned\n"
	definition := strings.ReplaceAll(definition, "slipway.test", "kept.slipway.test")
	kept := strings.Replace(configMap("b", "1"), "metadata:\n", "metadata:\n  annotations: {slipway-ci.github.io/prune: disabled}\n", 1)
	f.env["PARAM_TIMEOUT"] = "2s"
	f.overlay(t, namespace, definition, claim, configMap("a", "1"), kept)
	f.run(t).wantCode(t, step.ExitNotReady) // nobody binds the claim
	f.env["PARAM_TIMEOUT"] = "1m"
	f.overlay(t, configMap("a", "1"))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "namespace/never-pruned left the overlay and is kept", "customresourcedefinition.apiextensions.k8s.io/feeds.kept.slipway.test left the overlay and is kept",
		"persistentvolumeclaim/data left the overlay and is kept: its kind or its annotation slipway-ci.github.io/prune keeps it", "configmap/b left the overlay and is kept")
	if _, err := f.admin.CoreV1().PersistentVolumeClaims(f.namespace).Get(t.Context(), "data", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	f.wantThere(t, "a b")
}

func allowedPruned(t *testing.T, f *fixture) {
	allowed := strings.Replace(claim, "  name: data\n", "  name: data\n  annotations: {slipway-ci.github.io/prune: allowed, slipway-ci.github.io/wait: none}\n", 1)
	f.overlay(t, allowed, configMap("a", "1"))
	f.run(t).wantCode(t, 0)
	f.overlay(t, configMap("a", "1"))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "persistentvolumeclaim/data pruned")
}

func pruneOff(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"), configMap("b", "1"))
	f.run(t).wantCode(t, 0)
	f.overlay(t, configMap("a", "1"))
	f.env["PARAM_PRUNE"] = "false"
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "configmap/b left the overlay and is kept: the param prune says so")
	f.env["PARAM_PRUNE"] = "true" // it was not forgotten
	f.run(t).has(t, "configmap/b pruned")
	f.wantThere(t, "a")
}

func lostInventory(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"), configMap("b", "1"))
	f.run(t).wantCode(t, 0)
	if err := f.admin.CoreV1().ConfigMaps(f.namespace).Delete(t.Context(), "slipway-deploy-"+f.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.overlay(t, configMap("a", "1"))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "configmap/slipway-deploy-lost-inventory is new: nothing is pruned")
	f.wantThere(t, "a b")
}

func damagedInventory(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"), configMap("b", "1"))
	f.run(t).wantCode(t, 0)
	if _, err := f.admin.CoreV1().ConfigMaps(f.namespace).Patch(t.Context(), "slipway-deploy-"+f.namespace, types.MergePatchType, []byte(`{"data":{"inventory":"{"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f.overlay(t, configMap("a", "2"))
	out := f.run(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "it is damaged: ", "nothing was changed")
	f.wantThere(t, "a b")
}

func emptyRender(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"))
	f.run(t).wantCode(t, 0)
	f.overlay(t, "# nothing\n")
	f.run(t).want(t, step.ExitBadInput, "deploy: overlay overlay renders no object; list its manifests under resources")
	f.wantThere(t, "a")
}

// notBeforeReady: old pods may still need what left the overlay.
func notBeforeReady(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"), configMap("b", "1"))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_TIMEOUT"] = "2s"
	f.overlay(t, configMap("a", "1"), deployment)
	f.run(t, "feed-agg=r.test/feed-agg@"+digest).wantCode(t, step.ExitNotReady)
	f.wantThere(t, "a b")
	f.overlay(t, configMap("a", "1"))
	f.env["PARAM_TIMEOUT"] = "1m"
	f.run(t).has(t, "configmap/b pruned", "deployment.apps/feed-agg pruned")
	f.wantThere(t, "a")
}

func anotherDeploys(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_NAME"] = "second"
	out := f.run(t)
	out.want(t, step.ExitBadInput, "deploy: configmap/a in namespace another-deploys: it belongs to the deploy another-deploys in namespace another-deploys; "+
		"take it out of one of the two overlays, or set take-ownership-from to * (nothing was changed)")
	f.args = []string{"--take-ownership-from", "*"}
	f.run(t).wantCode(t, 0)
	f.args = nil
	f.env["PARAM_NAME"] = f.namespace
	f.overlay(t, configMap("b", "1"))
	f.run(t).has(t, "configmap/a left the overlay and is kept: its labels do not say that it belongs to this deploy")
	f.wantThere(t, "a b")
}

// anotherDeploysKept: an overlay that keeps an object from being pruned has not
// got it from its deploy.
func anotherDeploysKept(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_NAME"] = "second"
	f.overlay(t, strings.Replace(configMap("feeds", "b"), "metadata:\n", "metadata:\n  annotations: {slipway-ci.github.io/prune: disabled}\n", 1))
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "it belongs to the deploy another-deploys-kept in namespace another-deploys-kept; ", "nothing was changed")
	live, err := f.admin.CoreV1().ConfigMaps(f.namespace).Get(t.Context(), "feeds", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if live.Data["feeds"] != "a" || live.Labels["slipway-ci.github.io/deploy"] != f.namespace || live.Labels["slipway-ci.github.io/deploy-namespace"] != f.namespace {
		t.Errorf("it has %v and the labels %v", live.Data, live.Labels)
	}
}

func deleteVerb(t *testing.T, f *fixture) {
	f.overlay(t, configMap("a", "1"), service, strings.Replace(claim, "  name: data\n", "  name: data\n  annotations: {slipway-ci.github.io/wait: none}\n", 1))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_VERB"] = "delete"
	delete(f.env, "PARAM_OVERLAY")
	out := f.run(t)
	out.want(t, 0, "deploy delete-verb in namespace delete-verb: 2 objects deleted")
	out.has(t, "configmap/a pruned", "service/feed-agg pruned", "persistentvolumeclaim/data left the overlay and is kept")
	f.wantThere(t, "")
}

func deleteWithout(t *testing.T, f *fixture) {
	f.env["PARAM_VERB"] = "delete"
	f.run(t).want(t, step.ExitBadInput, "deploy: there is no deploy delete-without in namespace delete-without: configmap/slipway-deploy-delete-without does not exist")
}

// deleteByImage: where nobody gave the deploy a name, its image finds it.
func deleteByImage(t *testing.T, f *fixture) {
	delete(f.env, "PARAM_NAME")
	f.env["PARAM_TIMEOUT"] = "1s"
	f.overlay(t, deployment)
	f.run(t, "feed-agg=r.test/feed-agg@"+digest).wantCode(t, step.ExitNotReady)
	f.env["PARAM_TIMEOUT"] = "1m"
	f.env["PARAM_VERB"] = "delete"
	delete(f.env, "PARAM_OVERLAY")
	f.run(t, "r.test/feed-agg@"+digest).want(t, 0, "deploy feed-agg in namespace delete-by-image: 1 objects deleted")
}

func deletedStaysSo(t *testing.T, f *fixture) {
	f.place("100", "a")
	f.overlay(t, configMap("a", "1"))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_VERB"] = "delete"
	f.place("200", "b")
	f.run(t).wantCode(t, 0)
	f.env["PARAM_VERB"] = "apply"
	f.place("100", "a")
	f.run(t).wantCode(t, step.ExitFailed)
	f.wantThere(t, "")
}

// prunedKindGone: what was of a kind that is gone is gone with it.
func prunedKindGone(t *testing.T, f *fixture) {
	definition := strings.ReplaceAll(definition, "slipway.test", "gone.slipway.test")
	object := "apiVersion: gone.slipway.test/v1\nkind: Feed\nmetadata:\n  name: news\nspec:\n  url: feed.test\n"
	f.overlay(t, configMap("a", "1"), strings.Replace(definition, "metadata:\n", "metadata:\n  annotations: {slipway-ci.github.io/prune: allowed}\n", 1), object)
	f.run(t).wantCode(t, 0)
	f.overlay(t, configMap("a", "1"))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "feed.gone.slipway.test/news pruned", "customresourcedefinition.apiextensions.k8s.io/feeds.gone.slipway.test pruned")
}
