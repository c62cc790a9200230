package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// Of all that is sent to the EventListener, only a push of the app's branch
// that is signed with the secret becomes a run.
func TestPushBecomesARun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.newApp(t, "page")
	hello := s.newApp(t, "hello")
	hello.Template = "slipway-push-one-pod"
	s.installTriggers(t, page, hello)
	commit := page.push(t)
	event := pushEvent{Ref: "refs/heads/main", After: commit, FullName: page.App.Repository, CloneURL: page.URL()}

	tag, deleted, other := event, event, event
	tag.Ref = "refs/tags/v1"
	deleted.After = strings.Repeat("0", 40)
	other.FullName = "somebody/else"
	s.send(t, event, "")
	s.send(t, event, "a guess")
	for _, e := range []pushEvent{tag, deleted, other} {
		s.send(t, e, flow.WebhookSecret)
	}
	s.send(t, event, flow.WebhookSecret)
	name, err := s.WaitForRun(t.Context(), s.namespace, commit)
	if err != nil {
		t.Fatal(err)
	}
	run := succeeded(t, s.follow(t, name))
	page.answers(t, "/", "the first page")
	if got := run.Result("fetch", "commit"); got != commit {
		t.Errorf("commit %s was fetched, %s was pushed", got, commit)
	}
	// All of them came before this one, whose run has ended.
	runs, err := s.Tekton.TektonV1().PipelineRuns(s.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(runs.Items) != 1 {
		t.Errorf("%d events became runs, want 1", len(runs.Items))
	}

	// Another template in a Trigger is all that it takes to run in one pod.
	event = pushEvent{Ref: "refs/heads/main", After: hello.push(t), FullName: hello.App.Repository, CloneURL: hello.URL()}
	s.send(t, event, flow.WebhookSecret)
	if name, err = s.WaitForRun(t.Context(), s.namespace, event.After); err != nil {
		t.Fatal(err)
	}
	run = succeeded(t, s.follow(t, name))
	hello.answers(t, "/", "hello")
	if got := run.Result("run", "commit"); got != event.After {
		t.Errorf("commit %s was fetched in one pod, %s was pushed", got, event.After)
	}

	// The same Trigger takes the pushes of a GitLab, if it has the token.
	hello.replace(t, "main.go", `"hello\n"`, `"hello from GitLab\n"`)
	event.After = hello.push(t)
	s.sendAsGitLab(t, event, "a guess")
	s.sendAsGitLab(t, event, flow.WebhookSecret)
	if name, err = s.WaitForRun(t.Context(), s.namespace, event.After); err != nil {
		t.Fatal(err)
	}
	succeeded(t, s.follow(t, name))
	hello.answers(t, "/", "hello from GitLab")
	if runs, err = s.Tekton.TektonV1().PipelineRuns(s.namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(runs.Items) != 3 {
		t.Errorf("there are %d runs, want 3: GitLab's with another token was taken", len(runs.Items))
	}
}

// A push to a private repository takes a template that has the login.
func TestPushToAPrivateRepository(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.appFrom(t, flow.App{Name: "page", Overlay: "overlay", Repository: "private/", Template: "slipway-push-private"}, filepath.Join("testdata", "page"))
	hello := s.appFrom(t, flow.App{Name: "hello", Overlay: "overlay", Repository: "private/", Template: "slipway-push-one-pod-private"}, filepath.Join("testdata", "hello"))
	s.secret(t, "git-credentials", "", map[string]string{
		".gitconfig":       "[credential]\n\thelper = store\n",
		".git-credentials": strings.Replace(cluster.Git, "http://", "http://"+flow.GitLogin+"@", 1) + "\n",
	})
	s.installTriggers(t, page, hello)
	for app, answer := range map[*app]string{page: "the first page", hello: "hello"} {
		event := pushEvent{Ref: "refs/heads/main", After: app.push(t), FullName: app.App.Repository, CloneURL: app.URL()}
		s.send(t, event, flow.WebhookSecret)
		name, err := s.WaitForRun(t.Context(), s.namespace, event.After)
		if err != nil {
			t.Fatal(err)
		}
		succeeded(t, s.follow(t, name))
		app.answers(t, "/", answer)
	}
}

// installTriggers makes pushes of the apps become runs.
func (s *site) installTriggers(t *testing.T, apps ...*app) {
	t.Helper()
	t.Cleanup(func() { // it is the cluster's, not the namespace's
		err := s.Kube.RbacV1().ClusterRoleBindings().Delete(context.Background(), "slipway-listener-"+s.namespace, metav1.DeleteOptions{})
		if err != nil {
			t.Errorf("remove the listener's ClusterRoleBinding: %v", err)
		}
	})
	var of []flow.App
	for _, app := range apps {
		of = append(of, app.App)
	}
	if err := s.InstallTriggers(t.Context(), s.namespace, of...); err != nil {
		t.Fatal(err)
	}
}

// pushEvent is what of GitHub's event matters here
// (https://docs.github.com/webhooks/webhook-events-and-payloads#push), and has
// none of the fields that Gitea's lacks.
type pushEvent struct {
	Ref, After         string
	FullName, CloneURL string
}

// send delivers an event as GitHub does, unsigned if secret is "".
func (s *site) send(t *testing.T, e pushEvent, secret string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"ref": e.Ref, "after": e.After,
		"repository": map[string]any{"full_name": e.FullName, "clone_url": e.CloneURL},
	})
	if err != nil {
		t.Fatal(err)
	}
	header := map[string]string{"X-GitHub-Event": "push"}
	if secret != "" {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		header["X-Hub-Signature-256"] = "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	s.deliver(t, header, body)
}

// sendAsGitLab delivers an event as GitLab does
// (https://docs.gitlab.com/user/project/integrations/webhook_events/#push-events).
func (s *site) sendAsGitLab(t *testing.T, e pushEvent, token string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"object_kind": "push", "ref": e.Ref, "after": e.After, "checkout_sha": e.After,
		"project": map[string]any{"path_with_namespace": e.FullName, "git_http_url": e.CloneURL},
		"commits": []map[string]any{{"id": e.After, "timestamp": time.Now().Format(time.RFC3339)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.deliver(t, map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": token}, body)
}

// deliver sends JSON to the listener.
func (s *site) deliver(t *testing.T, header map[string]string, body []byte) {
	t.Helper()
	request := s.Kube.CoreV1().RESTClient().Post().Namespace(s.namespace).Resource("services").Name("http:el-slipway:8080").SubResource("proxy").
		SetHeader("Content-Type", "application/json").Body(body)
	for name, value := range header {
		request.SetHeader(name, value)
	}
	if err := request.Do(t.Context()).Error(); err != nil {
		t.Fatalf("send an event to the listener: %v", err)
	}
}
