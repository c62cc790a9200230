package apiserver_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/test/apiserver"
)

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// TestDeploy runs the deploy binary as its Task does, against a real API
// server. Each case has a namespace of its own, named after it.
func TestDeploy(t *testing.T) {
	t.Parallel()
	server := apiserver.Start(t)
	admin := kubernetes.NewForConfigOrDie(server.Config())
	binary := build(t, "github.com/slipway-ci/slipway/cmd/deploy")

	cases := map[string]func(*testing.T, *fixture){
		"created-configured-unchanged": createdConfiguredUnchanged,
		"invalid":                      invalid,
		"unknown-kind":                 unknownKind,
		"missing-namespace":            missingNamespace,
		"own-namespace-and-kind":       ownNamespaceAndKind,
		"later-stage":                  laterStage,
		"conflict":                     conflict,
		"never-acted-on":               neverActedOn,
		"old-pods-do-not-count":        oldPodsDoNotCount,
		"image-pull":                   imagePull,
		"crash":                        crash,
		"probe":                        probe,
		"unschedulable":                unschedulable,
		"progress-deadline":            progressDeadline,
		"deleted-while-waiting":        deletedWhileWaiting,
		"sigterm-while-waiting":        sigtermWhileWaiting,
		"unused-image":                 unusedImage,
		"missing-overlay":              missingOverlay,
		"no-server":                    noServer,
		"results-fit":                  resultsFit,
	}
	for _, more := range []map[string]func(*testing.T, *fixture){orderCases, pruneCases, ownershipCases, verbCases, waitCases, secretCases, inSyncCases, forbiddenCases} {
		maps.Copy(cases, more)
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{
				admin: admin, server: server, binary: binary,
				namespace: name, source: t.TempDir(), results: t.TempDir(),
				env: map[string]string{"PARAM_OVERLAY": "overlay", "PARAM_TIMEOUT": "1m", "PARAM_NAMESPACE": name, "PARAM_VERB": "apply", "PARAM_NAME": name, "PARAM_PRUNE": "true"},
			}
			f.env["WORKSPACE_SOURCE_PATH"] = f.source
			f.env["RESULT_CHANGES_PATH"] = filepath.Join(f.results, "changes")
			f.env["WORKSPACE_KUBECONFIG_PATH"] = server.Kubeconfig(t, "")
			if name != "missing-namespace" && name != "own-namespace-and-kind" {
				f.createNamespace(t)
			}
			run(t, f)
		})
	}
}

func createdConfiguredUnchanged(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), service)
	out := f.run(t)
	out.want(t, 0, "all 2 objects are ready after <time>")
	out.has(t, "configmap/feeds created", "service/feed-agg created")
	f.wantChanges(t, "2 created, 0 configured, 0 unchanged")

	f.overlay(t, configMap("feeds", "b"), service)
	out = f.run(t)
	out.want(t, 0, "all 2 objects are ready after <time>")
	out.has(t, "configmap/feeds configured", "service/feed-agg unchanged")
	f.wantChanges(t, "0 created, 1 configured, 1 unchanged")

	live, err := f.admin.CoreV1().ConfigMaps(f.namespace).Get(t.Context(), "feeds", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if live.Data["feeds"] != "b" || live.ManagedFields[0].Manager != "slipway" || live.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("applied: %v by %+v", live.Data, live.ManagedFields)
	}
}

func invalid(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), strings.Replace(service, "port: 80", "port: 80\n    nodePort: 80", 1))
	f.run(t).want(t, step.ExitBadInput,
		`deploy: service/feed-agg in namespace invalid: Service "feed-agg" is invalid: spec.ports[0].nodePort: Forbidden: `+
			`may not be used when `+"`type` is 'ClusterIP'"+`; mend the manifest (nothing was changed)`)
	f.wantNothing(t)
}

func unknownKind(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), "apiVersion: example.test/v1\nkind: Feed\nmetadata:\n  name: news\n")
	f.run(t).want(t, step.ExitBadInput,
		`deploy: feed.example.test/news in namespace unknown-kind: the cluster has no kind Feed in example.test/v1; `+
			`install its definition or mend the apiVersion (nothing was changed)`)
	f.wantNothing(t)
}

func missingNamespace(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).want(t, step.ExitBadInput,
		`deploy: configmap/feeds in namespace missing-namespace: the namespace does not exist; create it, or add it to the overlay (nothing was changed)`)
}

// ownNamespaceAndKind: what an overlay brings along cannot be dry-run before
// it is there.
func ownNamespaceAndKind(t *testing.T, f *fixture) {
	delete(f.env, "PARAM_NAMESPACE")
	f.overlay(t,
		"apiVersion: slipway.test/v1\nkind: Feed\nmetadata:\n  name: news\n  namespace: own-namespace-and-kind\nspec:\n  url: feed.test\n",
		definition, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: own-namespace-and-kind\n")
	out := f.run(t)
	out.want(t, 0, "all 3 objects are ready after <time>")
	out.has(t, "namespace/own-namespace-and-kind created", "customresourcedefinition.apiextensions.k8s.io/feeds.slipway.test created", "feed.slipway.test/news created")
	f.run(t).has(t, "feed.slipway.test/news unchanged", "0 created, 0 configured, 3 unchanged")
}

// laterStage: what can be tried only once its definition is there is tried
// before anything else is written. Cluster roles and definitions are there by
// then.
func laterStage(t *testing.T, f *fixture) {
	definition := strings.ReplaceAll(definition, "slipway.test", "later.slipway.test")
	definition = strings.Replace(definition, "            type: object\n            properties:\n              url",
		"            type: object\n            x-kubernetes-validations: [{rule: self.url.startsWith('https'), message: it is not safe}]\n            properties:\n              url", 1)
	const role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: later-stage\nrules: []\n"
	f.overlay(t, configMap("feeds", "a"), role, definition, "apiVersion: later.slipway.test/v1\nkind: Feed\nmetadata:\n  name: news\nspec:\n  url: http://feed.test\n")
	f.run(t).want(t, step.ExitBadInput,
		`deploy: feed.later.slipway.test/news in namespace later-stage: Feed.later.slipway.test "news" is invalid: spec: Invalid value: it is not safe; mend the manifest `+
			`(only namespaces, custom resource definitions and cluster roles were applied) (2 of 4 objects were applied before it)`)
	f.wantThere(t, "")
	if _, err := f.admin.RbacV1().ClusterRoles().Get(t.Context(), "later-stage", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func conflict(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), service)
	f.run(t).wantCode(t, 0)
	_, err := f.admin.CoreV1().ConfigMaps(f.namespace).Patch(t.Context(), "feeds", types.MergePatchType,
		[]byte(`{"data":{"feeds":"by hand"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
	f.overlay(t, configMap("feeds", "b"), strings.Replace(service, "port: 80", "port: 81", 1))
	f.run(t).want(t, step.ExitFailed,
		`deploy: configmap/feeds in namespace conflict: field .data.feeds has a conflict with "kubectl-edit" using v1, which has set it to "by hand"; `+
			`take the field out of the manifests, or name the manager in the param take-ownership-from (nothing was changed)`)
	live, err := f.admin.CoreV1().Services(f.namespace).Get(t.Context(), "feed-agg", metav1.GetOptions{})
	if err != nil || live.Spec.Ports[0].Port != 80 {
		t.Errorf("the service was changed although the config map conflicts: %v, %v", live.Spec.Ports, err)
	}
}

func neverActedOn(t *testing.T, f *fixture) {
	f.overlay(t, deployment)
	f.env["PARAM_TIMEOUT"] = "2s"
	f.run(t, "feed-agg=r.test/feed-agg:v1@"+digest).want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace never-acted-on is not ready after <time>: Replicas: 0/1, `+
			`and no controller has acted on it; check that the cluster's controller manager runs`)
	f.wantChanges(t, "1 created, 0 configured, 0 unchanged")
	live, err := f.admin.AppsV1().Deployments(f.namespace).Get(t.Context(), "feed-agg", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if image := live.Spec.Template.Spec.Containers[0].Image; image != "r.test/feed-agg:v1@"+digest {
		t.Errorf("applied image %s", image)
	}
}

// oldPodsDoNotCount: an app that is up in its old version is not ready in the
// new one.
func oldPodsDoNotCount(t *testing.T, f *fixture) {
	f.overlay(t, deployment)
	ready := f.start(t, "feed-agg=r.test/feed-agg:v1@"+digest)
	ready.until(t, "deployment.apps/feed-agg: Replicas: 0/1")
	f.setStatus(t, func(d *appsv1.Deployment) { d.Status = rolledOut(d.Generation) })
	ready.wait(t).want(t, 0, "all 1 objects are ready after <time>")

	f.env["PARAM_TIMEOUT"] = "2s"
	f.run(t, "feed-agg=r.test/feed-agg:v2@"+digest).wantCode(t, step.ExitNotReady)
}

func imagePull(t *testing.T, f *fixture) {
	f.rollout(t, func(pod *corev1.Pod) {
		pod.Status.Phase = corev1.PodPending
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "feed-agg", Image: "r.test/feed-agg@" + digest,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "Back-off pulling image"}},
		}}
	}, event("Failed", `Failed to pull image "r.test/feed-agg": not found`)).want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace image-pull is not ready after <time>: container feed-agg of pod feed-agg-2-x: `+
			`its image r.test/feed-agg@`+digest+` cannot be pulled: Failed: Failed to pull image "r.test/feed-agg": not found; `+
			`check that the image exists and that the nodes may pull from its registry`)
}

func crash(t *testing.T, f *fixture) {
	out := f.rollout(t, func(pod *corev1.Pod) {
		pod.Status.Phase = corev1.PodRunning
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "feed-agg", RestartCount: 3,
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 40s"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error"}},
		}}
	}, event("BackOff", "Back-off restarting failed container feed-agg"))
	out.has(t, "pod/feed-agg-2-x BackOff: Back-off restarting failed container feed-agg")
	out.want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace crash is not ready after <time>: container feed-agg of pod feed-agg-2-x `+
			`exits with code 2, restarted 3 times; its last lines are above`)
}

func probe(t *testing.T, f *fixture) {
	f.rollout(t, func(pod *corev1.Pod) {
		pod.Status.Phase = corev1.PodRunning
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "feed-agg", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}
	}, event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")).want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace probe is not ready after <time>: container feed-agg of pod feed-agg-2-x `+
			`runs but is not ready: Readiness probe failed: HTTP probe failed with statuscode: 503; mend the app or its probe; its last lines are above`)
}

func unschedulable(t *testing.T, f *fixture) {
	f.rollout(t, func(pod *corev1.Pod) {
		pod.Status.Phase = corev1.PodPending
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available: 1 Insufficient memory.",
		}}
	}).want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace unschedulable is not ready after <time>: pod feed-agg-2-x cannot be scheduled: `+
			`0/1 nodes are available: 1 Insufficient memory.; lower its requests, mend its selectors and tolerations, or add a node`)
}

// progressDeadline: what cannot become ready any more is not waited for.
func progressDeadline(t *testing.T, f *fixture) {
	f.overlay(t, deployment)
	d := f.start(t, "feed-agg=r.test/feed-agg@"+digest)
	d.until(t, "deployment.apps/feed-agg: Replicas: 0/1")
	f.setStatus(t, func(d *appsv1.Deployment) {
		d.Status.ObservedGeneration = d.Generation
		d.Status.Conditions = []appsv1.DeploymentCondition{{
			Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded",
			Message: `ReplicaSet "feed-agg-1" has timed out progressing.`,
		}}
	})
	d.wait(t).want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace progress-deadline is not ready after <time>: `+
			`ReplicaSet "feed-agg-1" has timed out progressing.; deploy again once that is mended`)
}

func deletedWhileWaiting(t *testing.T, f *fixture) {
	f.overlay(t, deployment)
	d := f.start(t, "feed-agg=r.test/feed-agg@"+digest)
	d.until(t, "deployment.apps/feed-agg: Replicas: 0/1")
	if err := f.admin.AppsV1().Deployments(f.namespace).Delete(t.Context(), "feed-agg", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	d.wait(t).want(t, step.ExitNotReady,
		`deploy: deployment.apps/feed-agg in namespace deleted-while-waiting is not ready after <time>: `+
			`someone deleted it while its rollout was waited for; deploy again once that is mended`)
}

// sigtermWhileWaiting: a deploy that is told to stop does not wait for its
// deadline.
func sigtermWhileWaiting(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), deployment)
	f.env["PARAM_TIMEOUT"] = "1h"
	d := f.start(t, "feed-agg=r.test/feed-agg@"+digest)
	d.until(t, "deployment.apps/feed-agg: Replicas: 0/1")
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.wait(t).want(t, step.ExitNotReady,
		`deploy: stopped while waiting: terminated signal received; all 2 objects are applied, not ready yet: `+
			`deployment.apps/feed-agg in namespace sigterm-while-waiting (Replicas: 0/1); run it again to go on waiting`)

	// The next one has nothing to write, and waits for the rest.
	d = f.start(t, "feed-agg=r.test/feed-agg@"+digest)
	d.until(t, "deployment.apps/feed-agg: Replicas: 0/1")
	f.setStatus(t, func(d *appsv1.Deployment) { d.Status = rolledOut(d.Generation) })
	d.wait(t).want(t, 0, "all 2 objects are ready after <time>")
	f.wantChanges(t, "0 created, 0 configured, 2 unchanged")
}

func unusedImage(t *testing.T, f *fixture) {
	f.overlay(t, deployment)
	f.run(t, "r.test/team/feed-agg:v1@"+digest).want(t, step.ExitBadInput,
		`deploy: image r.test/team/feed-agg is used in no manifest of the overlay, which has feed-agg; use that name in the manifests, `+
			`or give the image as <name in the manifests>=r.test/team/feed-agg:v1@`+digest)
	f.wantNothing(t)
}

func missingOverlay(t *testing.T, f *fixture) {
	f.env["PARAM_OVERLAY"] = "kustomize/overlays/prod"
	f.run(t).want(t, step.ExitBadInput, `deploy: overlay kustomize/overlays/prod: no such file or folder in the source`)
}

// noServer: an API server that does not answer is waited for until the
// deadline.
func noServer(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	kubeconfig := filepath.Join(f.env["WORKSPACE_KUBECONFIG_PATH"], "kubeconfig")
	content, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	gone := strings.ReplaceAll(string(content), f.server.URL, "https://127.0.0.1:1")
	if err := os.WriteFile(kubeconfig, []byte(gone), 0o600); err != nil {
		t.Fatal(err)
	}
	f.env["PARAM_TIMEOUT"] = "1s"
	out := f.run(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "the inventory slipway-deploy-no-server: trying again: ", "the param timeout, 1s, is over; the last answer was: ", "connect: connection refused", "nothing was changed")
}

// resultsFit: what a deploy of hundreds of objects with the longest of names
// leaves as results, with all that can become of an object in them, is as short
// as that of one.
func resultsFit(t *testing.T, f *fixture) {
	const objects = 500
	f.env["RESULT_REVISION_PATH"] = filepath.Join(f.results, "revision")
	f.env["RESULT_IMAGES_PATH"] = filepath.Join(f.results, "images")
	f.env["PARAM_REVISION"] = strings.Repeat("c", 64)
	all := func(from int, value string) (manifests []string) {
		for i := from; i < from+objects; i++ {
			manifests = append(manifests, configMap(fmt.Sprintf("%s-%d", strings.Repeat("feeds", 49), i), value))
		}
		return manifests
	}
	f.overlay(t, append(all(0, "a"), immutableMap("a", "x: y"))...)
	f.run(t).wantCode(t, 0)
	f.overlay(t, append(all(objects/2, "b"), immutableMap("b", "slipway-ci.github.io/recreate: allowed"))...)
	f.run(t).wantCode(t, 0)
	f.wantChanges(t, "250 created, 250 configured, 0 unchanged, 1 recreated, 250 pruned")
	files, err := os.ReadDir(f.results)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if len(files) != 3 || size > 1536 {
		t.Errorf("%d results of %d bytes, want 3 of at most 1536", len(files), size)
	}
}
