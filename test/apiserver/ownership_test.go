package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-ci/slipway/internal/step"
)

var ownershipCases = map[string]func(*testing.T, *fixture){
	"take-named":          takeNamed,
	"take-all":            takeAll,
	"from-kubectl":        fromKubectl,
	"immutable":           immutable,
	"recreated":           recreatedCase,
	"recreate-refused":    recreateRefused,
	"recreate-bound":      recreateBound,
	"unchanged-no-write":  unchangedNoWrite,
	"retried":             retried,
	"mistyped":            mistyped,
	"invalid-and-moving":  invalidAndMoving,
	"unchanged-but-taken": unchangedButTaken,
}

func (f *fixture) edit(t *testing.T, manager, value string) {
	t.Helper()
	_, err := f.admin.CoreV1().ConfigMaps(f.namespace).Patch(t.Context(), "feeds", types.MergePatchType,
		[]byte(fmt.Sprintf(`{"data":{"feeds":%q}}`, value)), metav1.PatchOptions{FieldManager: manager})
	if err != nil {
		t.Fatal(err)
	}
}

func takeNamed(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.edit(t, "kubectl-edit", "by hand")
	f.args = []string{"--take-ownership-from", "somebody-else"}
	f.run(t).wantCode(t, step.ExitFailed)
	f.args = []string{"--take-ownership-from", "kubectl-edit"}
	f.run(t).has(t, "configmap/feeds configured")
	f.feeds(t, "a")
}

func takeAll(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.edit(t, "kubectl-edit", "by hand")
	f.args = []string{"--take-ownership-from", "*"}
	f.run(t).has(t, "configmap/feeds configured")
	f.feeds(t, "a")
}

// fromKubectl: an object of kubectl apply becomes the deploy's, also what it
// has and the manifests do not.
func fromKubectl(t *testing.T, f *fixture) {
	maps := f.admin.CoreV1().ConfigMaps(f.namespace)
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	if err := maps.Delete(t.Context(), "feeds", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	applied := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"feeds"},"data":{"feeds":"old","more":"x"}}`
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"feeds","annotations":{"kubectl.kubernetes.io/last-applied-configuration":%q}},"data":{"feeds":"old","more":"x"}}`, applied)
	err := f.admin.CoreV1().RESTClient().Post().Namespace(f.namespace).Resource("configmaps").
		Param("fieldManager", "kubectl-client-side-apply").Body([]byte(body)).SetHeader("Content-Type", "application/json").Do(t.Context()).Error()
	if err != nil {
		t.Fatal(err)
	}
	f.args = []string{"--take-ownership-from", "kubectl-client-side-apply"}
	f.run(t).wantCode(t, 0)
	live, err := maps.Get(t.Context(), "feeds", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(live.Data) != 1 || live.Data["feeds"] != "a" || len(live.Annotations) != 0 || len(live.ManagedFields) != 1 || live.ManagedFields[0].Manager != "slipway" {
		t.Errorf("it has %v, %v and the managers %v", live.Data, live.Annotations, live.ManagedFields)
	}
}

func immutableMap(value, annotation string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nimmutable: true\nmetadata:\n  name: feeds\n  annotations: {%s}\ndata:\n  feeds: %s\n", annotation, value)
}

func immutable(t *testing.T, f *fixture) {
	f.overlay(t, immutableMap("a", ""))
	f.run(t).wantCode(t, 0)
	f.overlay(t, immutableMap("b", ""), service)
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "field is immutable when `immutable` is set", "with the annotation slipway-ci.github.io/recreate: allowed", "nothing was changed")
	f.feeds(t, "a")
}

func recreatedCase(t *testing.T, f *fixture) {
	const allowed = "slipway-ci.github.io/recreate: allowed"
	f.overlay(t, immutableMap("a", allowed))
	f.run(t).wantCode(t, 0)
	f.overlay(t, immutableMap("b", allowed))
	f.run(t).has(t, "configmap/feeds recreated")
	f.wantChanges(t, "0 created, 0 configured, 0 unchanged, 1 recreated")
	f.feeds(t, "b")
}

// recreateRefused: what could not be created again is not deleted.
func recreateRefused(t *testing.T, f *fixture) {
	const allowed = "slipway-ci.github.io/recreate: allowed"
	f.overlay(t, immutableMap("a", allowed))
	f.run(t).wantCode(t, 0)
	f.overlay(t, immutableMap("b", allowed)+"  not a key: x\n")
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "field is immutable when `immutable` is set", "a valid config key must consist of", "; mend the manifest (nothing was changed)")
	f.feeds(t, "a")
}

// recreateBound: a service that has its address cannot be tried beside itself;
// a binding says of no field that it is immutable.
func recreateBound(t *testing.T, f *fixture) {
	const allowed = "  annotations: {slipway-ci.github.io/recreate: allowed}\n"
	fixed := strings.Replace(service, "spec:\n", allowed+"spec:\n  clusterIP: 10.0.0.77\n", 1)
	binding := "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: feeds\n" + allowed +
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: a}\nsubjects: [{kind: ServiceAccount, name: feeds}]\n"
	f.overlay(t, fixed, binding)
	f.run(t).wantCode(t, 0)
	f.overlay(t, strings.Replace(fixed, ".77", ".78", 1)+"    nodePort: 80\n", strings.Replace(binding, "name: a", "name: b", 1))
	f.run(t).wantCode(t, step.ExitBadInput)
	f.overlay(t, strings.Replace(fixed, ".77", ".78", 1), strings.Replace(binding, "name: a", "name: b", 1))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "service/feed-agg recreated", "rolebinding.rbac.authorization.k8s.io/feeds recreated")
}

// unchangedNoWrite: what the API server's own audit log has of a deploy that
// changes nothing. It does not even try to write.
func unchangedNoWrite(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), service, deployment)
	f.env["PARAM_TIMEOUT"] = "1h"
	d := f.start(t, "feed-agg=r.test/feed-agg@"+digest)
	d.until(t, "deployment.apps/feed-agg: ")
	f.setStatus(t, func(d *appsv1.Deployment) { d.Status = rolledOut(d.Generation) })
	d.wait(t).wantCode(t, 0)

	before := len(f.server.Audit(t, f.namespace))
	f.run(t, "feed-agg=r.test/feed-agg@"+digest).wantCode(t, 0)
	f.wantChanges(t, "0 created, 0 configured, 3 unchanged")
	var inventory int
	for _, event := range f.server.Audit(t, f.namespace)[before:] {
		switch {
		case event.Verb == "get" || event.Verb == "list":
		case event.Verb == "update" && event.ObjectRef.Resource == "configmaps" && event.ObjectRef.Name == "slipway-deploy-"+f.namespace:
			inventory++
		default:
			t.Errorf("a deploy that changes nothing: %s %s", event.Verb, event.RequestURI)
		}
	}
	if inventory != 2 { // to take its place, and to say that all is well
		t.Errorf("the inventory was written %d times, want 2", inventory)
	}
}

// unchangedButTaken: who sets what the manifests say makes no conflict, and no
// change.
func unchangedButTaken(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.edit(t, "kubectl-edit", "b")
	f.edit(t, "kubectl-edit", "a")
	f.run(t).wantCode(t, 0)
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).has(t, "configmap/feeds unchanged")
}

// retried: what an API server answers that has too much to do, or whose
// webhooks are only starting, is not the end.
func retried(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	var n atomic.Int32
	statuses := []string{
		`{"kind":"Status","apiVersion":"v1","status":"Failure","code":429,"reason":"TooManyRequests","message":"too many requests"}`,
		`{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"reason":"InternalError","message":"failed calling webhook \"w\": connection refused"}`,
		`{"kind":"Status","apiVersion":"v1","status":"Failure","code":503,"reason":"ServiceUnavailable","message":"starting"}`,
		`{"kind":"Status","apiVersion":"v1","status":"Failure","code":409,"reason":"Conflict","message":"the object has been modified"}`,
	}
	codes := []int{429, 500, 503, 409}
	proxy := newProxy(t, f.server)
	f.env["WORKSPACE_KUBECONFIG_PATH"] = through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isWrite(r) {
			if i := int(n.Add(1)) - 1; i < len(codes) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(codes[i])
				_, _ = w.Write([]byte(statuses[i])) // the deploy says what it got
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "configmap/feeds: trying again: failed calling webhook", "configmap/feeds created")
	f.feeds(t, "a")
}

// mistyped: what the API server calls an internal error, and is the manifest's.
func mistyped(t *testing.T, f *fixture) {
	f.overlay(t, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: feeds\ndata:\n  feeds: 1\n")
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, ".data.feeds: expected string", "mend the manifest (nothing was changed)")
}

// invalidAndMoving: what others write while it is tried is tried all the same.
func invalidAndMoving(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), configMap("other", "a"))
	f.run(t).wantCode(t, 0)
	var n atomic.Int32
	proxy := newProxy(t, f.server)
	f.env["WORKSPACE_KUBECONFIG_PATH"] = through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("dryRun") != "" && strings.HasSuffix(r.URL.Path, "/feeds") && n.Add(1) <= 3 {
			f.edit(t, "controller", fmt.Sprint(n.Load()))
			f.edit(t, "controller", "a") // what it says is as it was
		}
		proxy.ServeHTTP(w, r)
	}))
	f.overlay(t, configMap("feeds", "a")+"  not a key: x\n", configMap("other", "b"))
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "a valid config key must consist of", "nothing was changed")
	if n.Load() < 4 {
		t.Errorf("it was tried %d times, want 4", n.Load())
	}
}
