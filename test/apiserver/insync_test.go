package apiserver_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var inSyncCases = map[string]func(*testing.T, *fixture){
	"in-sync":       inSync,
	"in-sync-rules": inSyncRules,
}

// podTemplate has all that a pod may, and no status that would be waited for.
const podTemplate = `apiVersion: v1
kind: PodTemplate
metadata:
  name: feed-agg
  annotations: {}
template:
  metadata:
    labels: {app: feed-agg}
  spec:
    tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}]
    containers:
    - name: feed-agg
      image: r.test/feed-agg:1
      args: [serve]
      env: [{name: A, value: "1"}, {name: B, value: $(A)}]
      ports: [{containerPort: 80}, {containerPort: 81, protocol: TCP}]
      resources: {limits: {memory: 1Gi}}
    - name: beside
      image: r.test/beside:1
`

// inSync: what an apply does not ask the API server about is what a diff, which
// asks about everything, finds unchanged too: whatever is edited in the overlay,
// or by others in the cluster.
func inSync(t *testing.T, f *fixture) {
	template := podTemplate
	write := func() { f.overlay(t, configMap("feeds", "a"), service, template) }
	write()
	f.run(t).wantCode(t, 0)

	// same fails unless an apply does what a diff says, with so many dry runs.
	same := func(what string, trials int) {
		t.Helper()
		f.env["PARAM_VERB"] = "diff"
		f.run(t).wantCode(t, 0)
		forecast, err := os.ReadFile(f.env["RESULT_CHANGES_PATH"])
		if err != nil {
			t.Fatal(err)
		}
		f.env["PARAM_VERB"] = "apply"
		before := len(f.server.Audit(t, f.namespace))
		f.run(t).wantCode(t, 0)
		f.wantChanges(t, string(forecast))
		asked := 0
		for _, event := range f.server.Audit(t, f.namespace)[before:] {
			if strings.Contains(event.RequestURI, "dryRun=All") {
				asked++
			}
		}
		if asked != trials {
			t.Errorf("%s (%s): %d dry runs, want %d", what, forecast, asked, trials)
		}
	}
	same("nothing", 0)
	for _, edit := range []struct{ from, to string }{
		{"feed-agg:1", "feed-agg:2"},
		{`{name: A, value: "1"}, {name: B, value: $(A)}`, `{name: B, value: $(A)}, {name: A, value: "1"}`}, // the order alone
		{", {name: A, value: \"1\"}]", "]"},
		{"{containerPort: 80}", "{containerPort: 80, protocol: TCP}"}, // the default, said
		{"{containerPort: 80, protocol: TCP}", "{containerPort: 80, protocol: UDP}"},
		{"{containerPort: 80, protocol: UDP}", "{containerPort: 80}"},
		{", {key: b, operator: Exists}", ""},
		{"annotations: {}", "annotations: {a: b}"},
		{"    - name: beside\n      image: r.test/beside:1\n", ""},
		{"{app: feed-agg}", "{app: feed-agg, team: news}"},
		{"[serve]", "[again]"},
	} {
		if !strings.Contains(template, edit.from) {
			t.Fatalf("the manifest has no %s", edit.from)
		}
		template = strings.Replace(template, edit.from, edit.to, 1)
		write()
		same(edit.from+" is "+edit.to, 1)
		same("nothing, after "+edit.from+" is "+edit.to, 0)
	}

	for _, drift := range []struct {
		patch  string
		trials int
	}{
		{`{"metadata":{"annotations":{"theirs":"1"}}}`, 0}, // a field of nobody else's
		{`{"template":{"spec":{"nodeName":"a"}}}`, 0},
		{`{"template":{"metadata":{"labels":{"team":null}}}}`, 1},
		{`{"metadata":{"annotations":{"a":null}}}`, 1},
		{`{"template":{"spec":{"containers":[{"name":"theirs","image":"r.test/theirs:1"}]}}}`, 1}, // an item of theirs in our list
	} {
		if _, err := f.admin.CoreV1().PodTemplates(f.namespace).Patch(t.Context(), "feed-agg", types.StrategicMergePatchType,
			[]byte(drift.patch), metav1.PatchOptions{FieldManager: "by-hand"}); err != nil {
			t.Fatal(err)
		}
		same(drift.patch, drift.trials)
	}
}

// inSyncRules: what has to be written again to be sure of the order, and what
// is to be taken over, is asked about although nothing of it has changed.
func inSyncRules(t *testing.T, f *fixture) {
	trials := func() int {
		t.Helper()
		before, n := len(f.server.Audit(t, f.namespace)), 0
		f.run(t).wantCode(t, 0)
		for _, event := range f.server.Audit(t, f.namespace)[before:] {
			if strings.Contains(event.RequestURI, "dryRun=All") {
				n++
			}
		}
		return n
	}
	f.overlay(t, configMap("feeds", "a"), configMap("more", "a"))
	f.run(t).wantCode(t, 0)
	if n := trials(); n != 0 {
		t.Errorf("%d dry runs of what is in sync", n)
	}
	f.args = []string{"--take-ownership-from", "*"}
	if n := trials(); n != 2 {
		t.Errorf("%d dry runs of what is to be taken over, want 2", n)
	}
	f.args = nil
	maps := f.admin.CoreV1().ConfigMaps(f.namespace)
	inventory, err := maps.Get(t.Context(), "slipway-deploy-"+f.namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	inventory.Data["inventory"] = strings.Replace(inventory.Data["inventory"], `"holder"`, `"writing": true, "holder"`, 1)
	if _, err := maps.Update(t.Context(), inventory, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := trials(); n != 2 {
		t.Errorf("%d dry runs after a run that did not end, want 2", n)
	}
	for _, name := range []string{"feeds", "more"} {
		live, err := maps.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || fmt.Sprint(live.Annotations) == "map[]" {
			t.Errorf("configmap/%s was not touched: %v, %v", name, live.Annotations, err)
		}
	}
}
