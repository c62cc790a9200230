package tasks_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	triggersv1 "github.com/tektoncd/triggers/pkg/apis/triggers/v1beta1"
	"github.com/tektoncd/triggers/pkg/interceptors"
	"github.com/tektoncd/triggers/pkg/interceptors/cel"
	"github.com/tektoncd/triggers/pkg/interceptors/github"
	"github.com/tektoncd/triggers/pkg/interceptors/gitlab"
)

func TestTriggers(t *testing.T) {
	t.Parallel()
	c := load(t)
	for name, template := range c.templates {
		raw := marshal(t, template.Spec.ResourceTemplates)
		used := matches(usedTTParam, raw)
		for _, param := range template.Spec.Params {
			if !used[param.Name] {
				t.Errorf("TriggerTemplate %s: param %s is used nowhere", name, param.Name)
			}
		}
	}
	for name, trigger := range c.triggers {
		given := map[string]bool{}
		for _, binding := range trigger.Spec.Bindings {
			switch {
			case binding.Name != "":
				given[binding.Name] = true
			case c.bindings[binding.Ref] == nil:
				t.Errorf("Trigger %s: no TriggerBinding is named %s", name, binding.Ref)
			default:
				for _, param := range c.bindings[binding.Ref].Spec.Params {
					given[param.Name] = true
				}
			}
		}
		template, ok := c.templates[*trigger.Spec.Template.Ref]
		if !ok {
			t.Errorf("Trigger %s: no TriggerTemplate is named %s", name, *trigger.Spec.Template.Ref)
			continue
		}
		for _, param := range template.Spec.Params {
			if !given[param.Name] && param.Default == nil {
				t.Errorf("Trigger %s: param %s of the template is required and not given", name, param.Name)
			}
			delete(given, param.Name)
		}
		for _, unknown := range slices.Sorted(maps.Keys(given)) {
			t.Errorf("Trigger %s: the template has no param %s", name, unknown)
		}
	}
}

const (
	privateTriggersFile = "../triggers/push-private.yaml"
	privateTriggersHead = `# What a push becomes where the repository or its modules are private: the
# templates of push.yaml and push-one-pod.yaml with a login for the git server.
# ../docs/credentials.md
# Generated from push.yaml and ../examples/app/run-one-pod.yaml: change those,
# then go test ./tasks -run TestPrivateTriggers -update
`
)

func TestPrivateTriggers(t *testing.T) {
	t.Parallel()
	pipeline := load(t).pipelines["slipway-fetch-build-deploy"]
	var templates []string
	for _, template := range []map[string]any{pushTemplate(t), onePodTemplate(t)} {
		metadata, spec := template["metadata"].(map[string]any), template["spec"].(map[string]any)
		metadata["name"] = metadata["name"].(string) + "-private"
		run := spec["resourcetemplates"].([]any)[0].(map[string]any)["spec"].(map[string]any)
		for _, param := range pipeline.Spec.Params {
			if param.Name != "go-private" && param.Name != "go-private-proxy" {
				continue
			}
			spec["params"] = append(spec["params"].([]any), map[string]any{"name": param.Name, "description": param.Description, "default": param.Default.StringVal})
			run["params"] = append(run["params"].([]any), map[string]any{"name": param.Name, "value": "$(tt.params." + param.Name + ")"})
		}
		spec["params"] = append(spec["params"].([]any), map[string]any{
			"name": "git-credentials", "default": "git-credentials",
			"description": "Secret with .gitconfig and .git-credentials, to fetch the source and private modules with.",
		})
		// Optional, as dockerconfig is: fetch says what is missing, a pod would wait for it.
		run["workspaces"] = append(run["workspaces"].([]any), map[string]any{
			"name": "git-credentials", "secret": map[string]any{"secretName": "$(tt.params.git-credentials)", "optional": true},
		})
		templates = append(templates, marshal(t, template))
	}
	generated(t, privateTriggersFile, privateTriggersHead+strings.Join(templates, "---\n"))
}

const (
	webhookToken = "launch"
	pushed       = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
)

// event is a delivery, and what the listener is to make of it: nothing where
// want is nil.
type event struct {
	headers map[string]string
	body    string
	want    map[string]any
}

// What each git server sends of a push, by its documentation, comes to the same
// words through the interceptors that Tekton has; what is no push of a branch,
// or not sent with the token, comes to nothing.
func TestWhatListenersMakeOfPushes(t *testing.T) {
	t.Parallel()
	const (
		github  = `{"ref": "refs/heads/main", "after": "` + pushed + `", "repository": {"full_name": "you/app", "clone_url": "https://github.com/you/app.git", "pushed_at": 1790000000}, "head_commit": {"timestamp": "2026-09-21T16:53:20+02:00"}}`
		gitea   = `{"ref": "refs/heads/main", "after": "` + pushed + `", "repository": {"full_name": "you/app", "clone_url": "https://gitea.example.com/you/app.git"}, "head_commit": {"timestamp": "2026-09-21T16:53:20+02:00"}}`
		gitlab  = `{"object_kind": "push", "ref": "refs/heads/main", "after": "` + pushed + `", "checkout_sha": "` + pushed + `", "project": {"path_with_namespace": "you/group/app", "git_http_url": "https://gitlab.example.com/you/group/app.git"}, "commits": [{"id": "b6568db1bc1dcd7f8b4d5a946b0b91f9dacd7327", "timestamp": "2026-09-21T16:00:00+02:00"}, {"id": "` + pushed + `", "timestamp": "2026-09-21T16:53:20+02:00"}]}`
		setBack = `{"object_kind": "push", "ref": "refs/heads/main", "after": "` + pushed + `", "checkout_sha": "` + pushed + `", "project": {"path_with_namespace": "you/group/app", "git_http_url": "https://gitlab.example.com/you/group/app.git"}, "commits": []}`
	)
	signed := func(kind, body string) map[string]string {
		mac := hmac.New(sha256.New, []byte(webhookToken))
		mac.Write([]byte(body))
		return map[string]string{"X-GitHub-Event": kind, "X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil)), "X-GitHub-Delivery": "delivery-1"}
	}
	sent := func(kind, token string) map[string]string {
		return map[string]string{"X-Gitlab-Event": kind, "X-Gitlab-Token": token}
	}
	comesTo := func(repository, url, time, id string) map[string]any {
		return map[string]any{"repository": repository, "repo-url": url, "event-time": time, "event-id": id}
	}
	tag, branch := strings.NewReplacer("refs/heads/main", "refs/tags/v1"), strings.NewReplacer(pushed, strings.Repeat("0", len(pushed)))
	for name, e := range map[string]event{
		"GitHub":                       {signed("push", github), github, comesTo("you/app", "https://github.com/you/app.git", "1790000000", "delivery-1")},
		"Gitea":                        {signed("push", gitea), gitea, comesTo("you/app", "https://gitea.example.com/you/app.git", "2026-09-21T16:53:20+02:00", "delivery-1")},
		"GitLab":                       {sent("Push Hook", webhookToken), gitlab, comesTo("you/group/app", "https://gitlab.example.com/you/group/app.git", "2026-09-21T16:53:20+02:00", pushed)},
		"GitLab, a branch set back":    {sent("Push Hook", webhookToken), setBack, comesTo("you/group/app", "https://gitlab.example.com/you/group/app.git", "", pushed)},
		"GitHub's tag":                 {signed("push", tag.Replace(github)), tag.Replace(github), nil},
		"GitHub's deleted branch":      {signed("push", branch.Replace(github)), branch.Replace(github), nil},
		"GitHub's pull request":        {signed("pull_request", github), github, nil},
		"GitHub's, of another body":    {signed("push", gitea), github, nil},
		"GitHub's, unsigned":           {map[string]string{"X-GitHub-Event": "push"}, github, nil},
		"GitLab's tag":                 {sent("Tag Push Hook", webhookToken), tag.Replace(gitlab), nil},
		"GitLab's tag as a push":       {sent("Push Hook", webhookToken), tag.Replace(gitlab), nil},
		"GitLab's deleted branch":      {sent("Push Hook", webhookToken), branch.Replace(gitlab), nil},
		"GitLab's, with a guess":       {sent("Push Hook", "a guess"), gitlab, nil},
		"GitLab's, without a token":    {map[string]string{"X-Gitlab-Event": "Push Hook"}, gitlab, nil},
		"GitLab's header on GitHub's":  {sent("Push Hook", webhookToken), github, nil},
		"GitHub's signature, GitLab's": {signed("push", gitlab), gitlab, nil},
		"no JSON":                      {sent("Push Hook", webhookToken), "payload=1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []map[string]any
			for _, listener := range load(t).listeners {
				for _, group := range listener.Spec.TriggerGroups {
					if extensions, ok := intercept(t, group, e); ok {
						got = append(got, extensions)
					}
				}
			}
			switch {
			case e.want == nil && len(got) > 0:
				t.Errorf("it became %v", got)
			case e.want != nil && (len(got) != 1 || !maps.Equal(got[0], e.want)):
				t.Errorf("got %v, want %v", got, e.want)
			}
		})
	}
}

// intercept is what the EventListener's sink does with a group.
func intercept(t *testing.T, group triggersv1.EventListenerTriggerGroup, e event) (extensions map[string]any, ok bool) {
	t.Helper()
	header := http.Header{}
	for name, value := range e.headers {
		header.Set(name, value)
	}
	extensions = map[string]any{}
	for _, one := range group.Interceptors {
		var interceptor triggersv1.InterceptorInterface
		switch one.Ref.Name {
		case "github":
			interceptor = github.NewInterceptor(webhookSecret{})
		case "gitlab":
			interceptor = gitlab.NewInterceptor(webhookSecret{})
		case "cel":
			interceptor = cel.NewInterceptor(webhookSecret{})
		default:
			t.Fatalf("there is no interceptor %s", one.Ref.Name)
		}
		response := interceptor.Process(t.Context(), &triggersv1.InterceptorRequest{
			Body: e.body, Header: header, Extensions: extensions,
			InterceptorParams: interceptors.GetInterceptorParams(one),
			Context:           &triggersv1.TriggerContext{TriggerID: "namespaces/feed-agg/triggerGroups/" + group.Name},
		})
		if !response.Continue {
			return nil, false
		}
		maps.Copy(extensions, response.Extensions)
	}
	return extensions, true
}

type webhookSecret struct{}

func (webhookSecret) Get(_ context.Context, _ string, ref *triggersv1.SecretRef) ([]byte, error) {
	if ref.SecretName != "slipway-webhook" || ref.SecretKey != "token" {
		return nil, fmt.Errorf("there is no secret %s with %s", ref.SecretName, ref.SecretKey)
	}
	return []byte(webhookToken), nil
}

// What bindings and filters take from the listener it says of every server.
func TestListenersSayWhatTriggersAsk(t *testing.T) {
	t.Parallel()
	c := load(t)
	asked := map[string]bool{}
	for _, binding := range c.bindings {
		maps.Copy(asked, matches(usedExtension, marshal(t, binding)))
	}
	for _, trigger := range c.triggers {
		maps.Copy(asked, matches(usedExtension, marshal(t, trigger)))
	}
	if !asked["repository"] || !asked["repo-url"] {
		t.Errorf("they ask for %v", slices.Sorted(maps.Keys(asked)))
	}
	for name, listener := range c.listeners {
		for _, group := range listener.Spec.TriggerGroups {
			said := marshal(t, group.Interceptors)
			for extension := range asked {
				if !strings.Contains(said, "key: "+extension+"\n") {
					t.Errorf("EventListener %s, group %s: it says no %s", name, group.Name, extension)
				}
			}
		}
	}
}

// Both servers' interceptors let everything through that they have no secret for.
func TestListenersVerifyWhoSends(t *testing.T) {
	t.Parallel()
	c := load(t)
	if len(c.listeners) == 0 {
		t.Error("there is no EventListener to look at")
	}
	for name, listener := range c.listeners {
		if len(listener.Spec.Triggers) > 0 || listener.Spec.LabelSelector != nil {
			t.Errorf("EventListener %s: a trigger outside of a group passes by the group's interceptors", name)
		}
		for _, group := range listener.Spec.TriggerGroups {
			first := group.Interceptors[0]
			verifies := slices.Contains([]string{"github", "gitlab"}, first.Ref.Name) && slices.ContainsFunc(first.Params, func(p triggersv1.InterceptorParams) bool {
				return p.Name == "secretRef" && bytes.Contains(p.Value.Raw, []byte("secretName"))
			})
			if !verifies {
				t.Errorf("EventListener %s, group %s: its first interceptor does not verify the sender", name, group.Name)
			}
		}
	}
}
