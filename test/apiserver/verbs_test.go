package apiserver_test

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipway-ci/slipway/internal/step"
)

var verbCases = map[string]func(*testing.T, *fixture){
	"diff":            diffVerb,
	"diff-refuses":    diffRefuses,
	"diff-not-ours":   diffNotOurs,
	"diff-guesses":    diffGuesses,
	"render":          renderVerb,
	"rollback":        rollbackVerb,
	"rollback-wrong":  rollbackWrong,
	"rollback-fields": rollbackFields,
	"hooks":           hooksCase,
	"hook-fails":      hookFails,
	"kubeconfig-else": contextElse,
}

func diffVerb(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), configMap("gone", "x"), service)
	f.run(t).wantCode(t, 0)
	f.overlay(t, configMap("feeds", "b"), configMap("new", "x"), service)
	f.env["PARAM_VERB"] = "diff"
	out := f.run(t)
	out.want(t, 0, "it would be: 1 created, 1 configured, 1 unchanged, 1 pruned")
	out.has(t, "configmap/feeds would be configured", "-  feeds: a\n+  feeds: b\n", "configmap/new would be created", "configmap/gone would be pruned")
	f.feeds(t, "a")
	f.wantThere(t, "feeds gone")
}

// diffRefuses: what apply refuses before it writes, diff refuses as well.
func diffRefuses(t *testing.T, f *fixture) {
	f.env["PARAM_VERB"] = "diff"
	f.overlay(t, configMap("feeds", "a"), hook("migrate", "before"))
	f.run(t).has(t, "job.batch/migrate-", "would run, a hook")
	f.overlay(t, configMap("feeds", "a"), strings.Replace(hook("migrate", "before"), "Never", "Always", 1))
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "spec.template.spec.restartPolicy: Required value")
	definition := strings.ReplaceAll(definition, "slipway.test", "diff.slipway.test")
	f.overlay(t, definition, "apiVersion: diff.slipway.test/v1\nkind: Feed\nmetadata:\n  name: news\nspec:\n  url: 5\n")
	out = f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "its definition in the same overlay does not allow it: spec.url in body must be of type string")
}

func (o output) hasNone(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(o.stderr, text) {
			t.Errorf("the log has %q:\n%s", text, o.stderr)
		}
	}
}

// diffNotOurs: whoever wrote the overlay learns nothing of an object that it only
// names, not even whether it is as guessed; unless the deploy is to take it over.
func diffNotOurs(t *testing.T, f *fixture) {
	kept := func(value string) string {
		return strings.Replace(configMap("kept", value), "metadata:\n", "metadata:\n  annotations: {slipway-ci.github.io/prune: disabled}\n", 1)
	}
	f.overlay(t, kept("x1"))
	f.run(t).wantCode(t, 0)
	options := metav1.CreateOptions{FieldManager: "kubectl-create"}
	if _, err := f.admin.CoreV1().ConfigMaps(f.namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "feeds"}, Data: map[string]string{"feeds": "by-hand", "more": "by-hand-too"},
	}, options); err != nil {
		t.Fatal(err)
	}
	if _, err := f.admin.CoreV1().Secrets(f.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "token"}, Data: map[string][]byte{"token": []byte("right-hunter2")},
	}, options); err != nil {
		t.Fatal(err)
	}
	f.env["PARAM_VERB"] = "diff"
	const rest = "is there and is not this deploy's: what it has is not shown, and what would become of it not tried; to see that, set take-ownership-from to kubectl-create or *"
	for _, guess := range []string{"right-hunter2", "wrong-hunter2"} {
		f.overlay(t, configMap("feeds", "guessed"), kept("x2"), strings.Replace(secret, "VALUE", guess, 1))
		out := f.run(t)
		out.want(t, 0, "it would be: 0 created, 3 configured, 0 unchanged")
		out.has(t, "configmap/feeds "+rest, "+  feeds: guessed\n", "secret/token "+rest, "+  token: (masked)\n", "-  feeds: x1\n+  feeds: x2\n") // kept is the deploy's by its inventory
		out.hasNone(t, "by-hand", "another value")
	}
	f.args = []string{"--take-ownership-from", "kubectl-create"}
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "-  feeds: by-hand\n+  feeds: guessed\n")
	f.args = []string{"--take-ownership-from", "kubectl-edit"}
	f.run(t).hasNone(t, "by-hand")
}

// diffGuesses: what an overlay says elsewhere is not masked for being the value of
// a Secret in the cluster: that would tell that it is.
func diffGuesses(t *testing.T, f *fixture) {
	f.overlay(t, strings.Replace(secret, "VALUE", "right-hunter2", 1))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_VERB"] = "diff"
	f.overlay(t, configMap("right", "right-hunter2"), configMap("wrong", "wrong-hunter2"),
		strings.Replace(strings.Replace(secret, "VALUE", "other-hunter2", 1), "metadata:\n", "metadata:\n  annotations: {right: right-hunter2, wrong: wrong-hunter2}\n", 1))
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "+  feeds: right-hunter2\n", "+  feeds: wrong-hunter2\n", "+    right: right-hunter2\n", "+    wrong: wrong-hunter2\n",
		"-  token: (masked)\n+  token: (masked) another value\n")
	out.hasNone(t, "other-hunter2")
}

func renderVerb(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), "apiVersion: v1\nkind: Secret\nmetadata:\n  name: token\nstringData:\n  token: hunter2hunter2\n")
	f.env["PARAM_VERB"] = "render"
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "  feeds: a\n", "  token: (masked)\n")
	f.wantThere(t, "")
}

func rollbackVerb(t *testing.T, f *fixture) {
	for _, event := range []string{"1", "2", "3"} {
		f.place(event+"00", event)
		f.overlay(t, configMap("feeds", event), configMap("only-"+event, "x"))
		f.run(t).wantCode(t, 0)
	}
	f.env["PARAM_VERB"] = "rollback"
	f.place("", "back")
	delete(f.env, "PARAM_OVERLAY")

	f.env["PARAM_REVISION"] = "commit-3"
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "the source is at revision commit-3, event 2 of 1970-01-01T00:03:20Z was deployed from commit-2; fetch that revision")

	f.env["PARAM_REVISION"] = "commit-2"
	f.overlay(t, configMap("feeds", "2"), configMap("only-2", "x"))
	out = f.run(t)
	out.wantCode(t, 0)
	out.has(t, "roll back to event 2 of 1970-01-01T00:03:20Z, revision commit-2, from event 3", "configmap/only-3 pruned")
	f.feeds(t, "2")
	f.run(t).wantCode(t, 0) // repeated, it goes to the same
	f.feeds(t, "2")

	// The run that was rolled back does not come back; a newer one does.
	f.env["PARAM_VERB"], f.env["PARAM_OVERLAY"] = "apply", "overlay"
	f.place("300", "3")
	f.run(t).wantCode(t, step.ExitFailed)
	f.place("2100-01-01T00:00:00Z", "4")
	f.overlay(t, configMap("feeds", "4"))
	f.run(t).wantCode(t, 0)
	f.feeds(t, "4")
}

// rollbackFields: images are set again in the fields that they were set in.
func rollbackFields(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "feed-agg"))
	f.args = []string{"--image-fields", "ConfigMap:data/feeds"}
	for _, event := range []string{"1", "2"} {
		f.place(event+"00", event)
		f.run(t, "feed-agg=r.test/feed-agg:v"+event+"@"+digest).wantCode(t, 0)
	}
	f.args = nil
	f.env["PARAM_VERB"] = "rollback"
	f.place("", "back")
	f.env["PARAM_REVISION"] = "commit-1"
	f.run(t).wantCode(t, 0)
	f.feeds(t, "r.test/feed-agg:v1@"+digest)
}

func rollbackWrong(t *testing.T, f *fixture) {
	f.place("100", "a")
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_VERB"] = "rollback"
	f.place("", "back")
	f.env["PARAM_REVISION"] = ""
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "nothing was deployed before event a")
	f.env["PARAM_ROLLBACK_TO"] = "b"
	out = f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "b is none of what became ready: [event a of 1970-01-01T00:01:40Z (revision commit-a)]")
}

func hook(name, when string) string {
	return "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: " + name + "\n  annotations: {slipway-ci.github.io/hook: " + when + "}\n" +
		"spec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers: [{name: c, image: r.test/c}]\n"
}

// finish ends the Job whose name begins with prefix.
func (f *fixture) finish(t *testing.T, prefix string, condition batchv1.JobConditionType) {
	t.Helper()
	jobs := f.admin.BatchV1().Jobs(f.namespace)
	list, err := jobs.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range list.Items {
		if !strings.HasPrefix(job.Name, prefix) || len(job.Status.Conditions) > 0 {
			continue
		}
		now := metav1.Now()
		conditions := []batchv1.JobCondition{{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}, {Type: condition, Status: corev1.ConditionTrue}}
		job.Status.StartTime = &now
		if condition == batchv1.JobComplete {
			job.Status.CompletionTime = &now
		} else {
			conditions[0].Type, conditions[1].Message = batchv1.JobFailureTarget, "it has reached the specified backoff limit"
		}
		job.Status.Conditions = conditions
		if _, err := jobs.UpdateStatus(t.Context(), &job, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func hooksCase(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), hook("migrate", "before"), hook("warm", "after"), hook("smoke", "verify"))
	d := f.start(t)
	for _, name := range []string{"migrate", "warm", "smoke"} {
		d.until(t, "job.batch/"+name+"-")
		d.until(t, name)
		f.whenStarted(t, d, name)
	}
	out := d.wait(t)
	out.wantCode(t, 0)
	order := []string{"configmap/feeds created", "started, a hook (before)", "started, a hook (after)", "started, a hook (verify)"}
	for i := 1; i < len(order); i++ {
		if strings.Index(out.stderr, order[i-1]) > strings.Index(out.stderr, order[i]) || !strings.Contains(out.stderr, order[i]) {
			t.Errorf("%q does not come before %q:\n%s", order[i-1], order[i], out.stderr)
		}
	}
	// The next run has Jobs of its own, and removes those.
	f.overlay(t, configMap("feeds", "a"))
	if n := strings.Count(f.run(t).stderr, "pruned"); n != 4 { // three, and the sum
		t.Errorf("%d lines say that something is pruned, want 4", n)
	}
}

func (f *fixture) whenStarted(t *testing.T, d *deploy, name string) {
	t.Helper()
	stages := map[string]string{"migrate": "before", "warm": "after", "smoke": "verify"}
	d.until(t, "started, a hook ("+stages[name]+")")
	f.finish(t, name, batchv1.JobComplete)
}

func hookFails(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), deployment, hook("migrate", "before"))
	d := f.start(t, "feed-agg=r.test/feed-agg@"+digest)
	d.until(t, "started, a hook (before)")
	f.finish(t, "migrate", batchv1.JobFailed)
	out := d.wait(t)
	out.wantCode(t, step.ExitNotReady)
	out.has(t, "it has reached the specified backoff limit", "configmap/feeds created")
	if strings.Contains(out.stderr, "deployment.apps/feed-agg created") {
		t.Error("the workload was applied although the hook before it failed")
	}
}

func contextElse(t *testing.T, f *fixture) {
	f.env["PARAM_CONTEXT"] = "test"
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.env["PARAM_CONTEXT"] = "prod"
	f.run(t).has(t, `context "prod" does not exist`)
}

var waitCases = map[string]func(*testing.T, *fixture){
	"custom-resource":  customResource,
	"tolerated":        toleratedCase,
	"tolerated-to-end": toleratedToTheEnd,
	"schema-in-render": schemaInRender,
	"types-of-served":  typesOfServed,
	"not-waited-for":   notWaitedFor,
}

func customResource(t *testing.T, f *fixture) {
	definition := strings.ReplaceAll(definition, "slipway.test", "status.slipway.test")
	definition = strings.Replace(definition, "        properties:\n", "        properties:\n          status: {type: object, x-kubernetes-preserve-unknown-fields: true}\n", 1)
	f.overlay(t, definition, "apiVersion: status.slipway.test/v1\nkind: Feed\nmetadata:\n  name: news\nspec:\n  url: feed.test\n")
	f.run(t).wantCode(t, 0)
	patch := func(body string) {
		err := f.admin.CoreV1().RESTClient().Patch(types.MergePatchType).AbsPath("/apis/status.slipway.test/v1/namespaces/" + f.namespace + "/feeds/news").
			Body([]byte(body)).Do(t.Context()).Error()
		if err != nil {
			t.Fatal(err)
		}
	}
	patch(`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"Fetching","message":"still fetching"}]}}`)
	f.env["PARAM_TIMEOUT"] = "2s"
	out := f.run(t)
	out.wantCode(t, step.ExitNotReady)
	out.has(t, "still fetching")
	patch(`{"status":{"conditions":[{"type":"Stalled","status":"True","reason":"NoSuchFeed","message":"there is no such feed"}]}}`)
	f.env["PARAM_TIMEOUT"] = "1h"
	out = f.run(t)
	out.wantCode(t, step.ExitNotReady)
	out.has(t, "there is no such feed; deploy again once that is mended")
}

func toleratedCase(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), strings.Replace(hook("report", "x"), "hook: x", "wait: tolerated", 1))
	d := f.start(t)
	d.until(t, "job.batch/report: ")
	f.finish(t, "report", batchv1.JobFailed)
	out := d.wait(t)
	out.wantCode(t, 0)
	out.has(t, "job.batch/report has failed, which is tolerated")
}

// toleratedToTheEnd: an object that is waited for until the time is over, and
// is tolerated, keeps nothing from being done that comes after waiting.
func toleratedToTheEnd(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), configMap("gone", "a"))
	f.run(t).wantCode(t, 0)
	f.place("2100-01-01T00:00:00Z", "b")
	f.env["PARAM_TIMEOUT"] = "2s"
	f.overlay(t, configMap("feeds", "a"), strings.Replace(hook("report", "x"), "hook: x", "wait: tolerated", 1), hook("smoke", "verify"))
	d := f.start(t)
	d.until(t, "1 of 2 objects are ready after")
	d.until(t, "started, a hook (verify)")
	f.finish(t, "smoke", batchv1.JobComplete)
	out := d.wait(t)
	out.wantCode(t, 0)
	out.has(t, "job.batch/report is not ready, which is tolerated", "configmap/gone pruned")
	f.wantThere(t, "feeds")
	inventory, err := f.admin.CoreV1().ConfigMaps(f.namespace).Get(t.Context(), "slipway-deploy-"+f.namespace, metav1.GetOptions{})
	if err != nil || strings.Count(inventory.Data["inventory"], `"event": "b"`) != 2 {
		t.Errorf("the run is not in the history: %v, %s", err, inventory.Data["inventory"])
	}
}

func notWaitedFor(t *testing.T, f *fixture) {
	f.overlay(t, strings.Replace(hook("report", "x"), "hook: x", "wait: none", 1))
	f.run(t).wantCode(t, 0)
}

// schemaInRender: a custom resource is held against the definition that comes
// with it before anything is written.
func schemaInRender(t *testing.T, f *fixture) {
	definition := strings.ReplaceAll(definition, "slipway.test", "schema.slipway.test")
	f.overlay(t, configMap("feeds", "a"), definition, "apiVersion: schema.slipway.test/v1\nkind: Feed\nmetadata:\n  name: news\nspec:\n  url: 5\n")
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "its definition in the same overlay does not allow it: spec.url in body must be of type string", "nothing was changed")
	f.wantThere(t, "")
}

// typesOfServed: of what is for a namespace that comes along, the API server
// checks the names and types of fields before it misses the namespace.
func typesOfServed(t *testing.T, f *fixture) {
	delete(f.env, "PARAM_NAMESPACE")
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: types-of-served-2\n"
	at := func(manifest string) string {
		return strings.Replace(manifest, "metadata:\n", "metadata:\n  namespace: types-of-served-2\n", 1)
	}
	f.overlay(t, namespace, at(configMap("feeds", "a")), at(service), at(strings.Replace(deployment, "spec:\n", "spec:\n  replica: 1\n", 1)))
	out := f.run(t)
	out.wantCode(t, step.ExitBadInput)
	out.has(t, "deployment.apps/feed-agg in namespace types-of-served-2: ", ".spec.replica: field not declared in schema; mend the manifest", "nothing was changed")
	if _, err := f.admin.CoreV1().Namespaces().Get(t.Context(), "types-of-served-2", metav1.GetOptions{}); err == nil {
		t.Error("the namespace was written")
	}
	f.overlay(t, namespace, at(configMap("feeds", "a")), at(service), at(strings.Replace(secret, "VALUE", "hunter2", 1)))
	f.run(t).wantCode(t, 0)
}

var secretCases = map[string]func(*testing.T, *fixture){"secrets": secrets, "secret-conflict": secretConflict, "secret-mistyped": secretMistyped}

const secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: token\nstringData:\n  token: VALUE\n"

// secrets: no value of a Secret is in what a deploy prints: neither what it
// applies, nor what it replaces or removes, nor what the app prints. Values that
// are too short to be masked in any text are where they are known to be values.
func secrets(t *testing.T, f *fixture) {
	wantNone := func(out output) {
		t.Helper()
		for _, value := range []string{
			"first-hunter2", "next-hunter2", "gone-hunter2", "Zmlyc3QtaHVudGVyMg", "bmV4dC1odW50ZXIy", "Z29uZS1odW50ZXIy",
			"q7", "z9", "cTc=", "ejk=",
		} {
			if strings.Contains(out.stderr, value) {
				t.Errorf("%s is printed:\n%s", value, out.stderr)
			}
		}
	}
	first := strings.Replace(secret, "VALUE", "first-hunter2\n  pin: q7\n  gone: gone-hunter2", 1)
	next := strings.Replace(secret, "VALUE", "next-hunter2\n  pin: z9", 1)
	f.overlay(t, first)
	wantNone(f.run(t))
	// kubectl keeps a copy of what it applied, where a diff shows it.
	_, err := f.admin.CoreV1().Secrets(f.namespace).Patch(t.Context(), "token", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"stringData\":{\"pin\":\"q7\"}}"}}}`), metav1.PatchOptions{FieldManager: "kubectl"})
	if err != nil {
		t.Fatal(err)
	}
	f.overlay(t, next)
	f.env["PARAM_VERB"] = "diff"
	out := f.run(t)
	wantNone(out)
	out.has(t, "-  gone: (masked)", "-  pin: (masked)", "+  pin: (masked) another value", "-  token: (masked)", "+  token: (masked) another value")
	f.env["PARAM_VERB"] = "render"
	wantNone(f.run(t))
	f.env["PARAM_VERB"] = "apply"
	f.overlay(t, next, deployment)
	out = f.rolloutOf(t, nil, event("FailedCreate", `pods is forbidden: env TOKEN=next-hunter2 WAS=first-hunter2 exceeds`))
	wantNone(out)
	out.has(t, "env TOKEN=(masked) WAS=(masked) exceeds")
}

func secretConflict(t *testing.T, f *fixture) {
	f.overlay(t, strings.Replace(secret, "stringData:\n  token: VALUE", "data:\n  token: bmV4dC1odW50ZXIy", 1))
	f.run(t).wantCode(t, 0)
	_, err := f.admin.CoreV1().Secrets(f.namespace).Patch(t.Context(), "token", types.MergePatchType,
		[]byte(`{"stringData":{"token":"by-hand-hunter2"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
	out := f.run(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, `field .data.token has a conflict with "kubectl-edit" using v1, which has set it to (masked)`)
	if strings.Contains(out.stderr, "Ynkt") || strings.Contains(out.stderr, "by-hand") {
		t.Errorf("a secret is printed:\n%s", out.stderr)
	}
}

// secretMistyped: what is no text is a secret nevertheless, in the API server's
// answer too.
func secretMistyped(t *testing.T, f *fixture) {
	for _, value := range []string{"12345678", "{deep: 12345678}", "[12345678]"} {
		f.overlay(t, strings.Replace(secret, "VALUE", value, 1))
		out := f.run(t)
		out.wantCode(t, step.ExitBadInput)
		if strings.Contains(out.stderr, "12345678") {
			t.Errorf("a secret is printed:\n%s", out.stderr)
		}
	}
}
