package apiserver_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/internal/step"
)

var forbiddenCases = map[string]func(*testing.T, *fixture){
	"forbidden":         forbidden,
	"role-suffices":     roleSuffices,
	"without-list":      withoutList,
	"over-quota":        overQuota,
	"no-pods":           noPods,
	"against-a-policy":  againstAPolicy,
	"unchanged-no-more": unchangedNoMore,
	"restricted":        restricted,
}

// forbidden: the last object of four is not allowed, and none is written.
func forbidden(t *testing.T, f *fixture) {
	f.actAs(t, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "create", "update", "patch"}})
	f.overlay(t, configMap("feeds", "a"), service)
	f.run(t).want(t, step.ExitFailed,
		`deploy: service/feed-agg in namespace forbidden: services "feed-agg" is forbidden: User "deployer" cannot get resource "services" in API group "" `+
			`in the namespace "forbidden"; grant it to the service account of the deploy, see tasks/deploy-rbac.yaml (nothing was changed)`)
	f.wantNothing(t)
	f.wantNoChanges(t)
}

// roleSuffices: the Role that tasks/deploy-rbac.yaml ships is what an app like
// the seed's needs, and no more: to be applied, changed, pruned and deleted, and
// to say why it does not become ready.
func roleSuffices(t *testing.T, f *fixture) {
	content, err := os.ReadFile("../../tasks/deploy-rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.Role
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		if strings.Contains(document, "\nkind: Role\n") {
			if err := yaml.UnmarshalStrict([]byte(document), &role); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.actAs(t, role.Rules...)
	f.overlay(t, configMap("feeds", "a"), configMap("gone", "a"), service, deployment)
	out := f.rolloutOf(t, func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "feed-agg", RestartCount: 3,
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2}},
		}}
	}, event("BackOff", "Back-off restarting failed container feed-agg"))
	out.has(t, "configmap/feeds created", "service/feed-agg created", "deployment.apps/feed-agg created")
	out.wantCode(t, step.ExitNotReady)
	f.env["PARAM_TIMEOUT"] = "1m"
	f.overlay(t, configMap("feeds", "b"), deployment)
	f.setStatus(t, func(d *appsv1.Deployment) { d.Status = rolledOut(d.Generation) })
	f.run(t, "feed-agg=r.test/feed-agg@"+digest).has(t, "configmap/feeds configured", "configmap/gone pruned", "service/feed-agg pruned")
	f.env["PARAM_VERB"] = "delete"
	f.run(t).wantCode(t, 0)

	// What was asked for is what the role grants: no right is missing, none is left.
	granted, used := map[string]bool{}, map[string]bool{}
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				granted[verb+" "+resource] = true
			}
		}
	}
	for _, event := range f.server.Audit(t, f.namespace) {
		if event.UserAgent != "slipway-deploy" {
			continue
		}
		resource := strings.TrimSuffix(event.ObjectRef.Resource+"/"+event.ObjectRef.Subresource, "/")
		used[event.Verb+" "+resource] = true
		if event.Verb == "patch" && event.ResponseStatus.Code == http.StatusCreated {
			used["create "+resource] = true // an apply that creates needs both rights
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(granted)), slices.Sorted(maps.Keys(used))); diff != "" {
		t.Errorf("granted (-), used (+):\n%s", diff)
	}
}

// withoutList: the right to list is for speed, a deploy does without.
func withoutList(t *testing.T, f *fixture) {
	f.actAs(t, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "create", "update", "patch"}})
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).has(t, "configmap/feeds created")
	f.run(t).has(t, "configmap/feeds unchanged")
}

// quota lets a namespace have no more of resource, once the API server knows.
// There is no controller that would count what is used.
func (f *fixture) quota(t *testing.T, resource corev1.ResourceName) {
	t.Helper()
	none := corev1.ResourceList{resource: {}}
	quotas := f.admin.CoreV1().ResourceQuotas(f.namespace)
	q, err := quotas.Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.ResourceQuotaSpec{Hard: none}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	q.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
	if _, err := quotas.UpdateStatus(t.Context(), q, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// untilForbidden repeats attempt until the API server forbids it, and returns
// what it says.
func untilForbidden(t *testing.T, attempt func(context.Context) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var answer error
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		answer = attempt(ctx)
		if answer != nil && !apierrors.IsForbidden(answer) {
			return false, answer
		}
		return answer != nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Error()
}

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// overQuota: an object that a quota leaves no room for stops the deploy before
// it starts.
func overQuota(t *testing.T, f *fixture) {
	f.quota(t, corev1.ResourceServices)
	untilForbidden(t, func(ctx context.Context) error {
		_, err := f.admin.CoreV1().Services(f.namespace).Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}, dryRun)
		return err
	})
	f.overlay(t, configMap("feeds", "a"), service)
	f.run(t).want(t, step.ExitFailed,
		`deploy: service/feed-agg in namespace over-quota: services "feed-agg" is forbidden: exceeded quota: small, requested: services=1, used: services=0, limited: services=0; `+
			`raise the quota, or ask for less (nothing was changed)`)
	f.wantNothing(t)
}

// noPods: the ReplicaSet may not create its pods. What its controller is told
// by the API server is in its event.
func noPods(t *testing.T, f *fixture) {
	f.quota(t, corev1.ResourcePods)
	answer := untilForbidden(t, func(ctx context.Context) error {
		_, err := f.admin.CoreV1().Pods(f.namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "feed-agg-2-x"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "x", Image: "r.test/x"}}},
		}, dryRun)
		return err
	})
	f.rollout(t, nil, event("FailedCreate", "Error creating: "+answer)).want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace no-pods is not ready after <time>: FailedCreate: Error creating: pods "feed-agg-2-x" is forbidden: `+
			`exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0; raise the quota, or ask for less`)
}

// noLatest makes a policy for the namespace: no config map may have "latest".
func (f *fixture) noLatest(t *testing.T) {
	t.Helper()
	policies := f.admin.AdmissionregistrationV1()
	_, err := policies.ValidatingAdmissionPolicies().Create(t.Context(), &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: f.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}}}},
			Validations: []admissionv1.Validation{{
				Expression: `!has(object.data) || !('feeds' in object.data) || object.data.feeds != 'latest'`, Message: "latest is no version",
				Reason: reason(metav1.StatusReasonForbidden),
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.ValidatingAdmissionPolicyBindings().Create(t.Context(), &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: f.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: f.namespace, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": f.namespace}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	untilForbidden(t, func(ctx context.Context) error {
		_, err := f.admin.CoreV1().ConfigMaps(f.namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Data: map[string]string{"feeds": "latest"}}, dryRun)
		return err
	})
}

func reason(r metav1.StatusReason) *metav1.StatusReason { return &r }

func againstAPolicy(t *testing.T, f *fixture) {
	f.noLatest(t)
	f.overlay(t, configMap("feeds", "latest"), service)
	f.run(t).want(t, step.ExitFailed, fmt.Sprintf(
		`deploy: configmap/feeds in namespace against-a-policy: configmaps "feeds" is forbidden: `+
			`ValidatingAdmissionPolicy '%[1]s' with binding '%[1]s' denied request: latest is no version; mend what it complains about (nothing was changed)`, f.namespace))
	f.wantNothing(t)
}

// unchangedNoMore: a policy that comes later meets an object when that changes,
// and stops no deploy of others.
func unchangedNoMore(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "latest"))
	f.run(t).wantCode(t, 0)
	f.noLatest(t)
	f.overlay(t, configMap("feeds", "latest"), service)
	out := f.run(t)
	out.wantCode(t, 0)
	out.has(t, "configmap/feeds unchanged", "service/feed-agg created")
	f.overlay(t, configMap("feeds", "latest")+"  more: b\n")
	f.run(t).wantCode(t, step.ExitFailed)
}

// restricted: the Task's steps are within the restricted Pod Security Standard,
// as the API server's own admission sees it.
func restricted(t *testing.T, f *fixture) {
	content, err := os.ReadFile("../../tasks/deploy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var task struct {
		Spec struct {
			Steps []struct {
				Name            string                  `json:"name"`
				SecurityContext *corev1.SecurityContext `json:"securityContext"`
			} `json:"steps"`
			Volumes []corev1.Volume `json:"volumes"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(content, &task); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "deploy"}, Spec: corev1.PodSpec{Volumes: task.Spec.Volumes}}
	for _, s := range task.Spec.Steps {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: s.Name, Image: "r.test/deploy", SecurityContext: s.SecurityContext})
	}
	create := func(ctx context.Context, pod *corev1.Pod) error {
		_, err := f.admin.CoreV1().Pods(f.namespace).Create(ctx, pod, dryRun)
		return err
	}
	_, err = f.admin.CoreV1().Namespaces().Patch(t.Context(), f.namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	free := pod.DeepCopy()
	free.Spec.Containers[0].SecurityContext = nil
	untilForbidden(t, func(ctx context.Context) error { return create(ctx, free) })
	if err := create(t.Context(), pod); err != nil {
		t.Error(err)
	}
}
