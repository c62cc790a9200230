package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// Two runs fill the empty caches of one claim at the same time. The older one
// deploys if it is there first.
func TestTwoRunsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, other := s.newApp(t, "hello"), s.newApp(t, "hello")
	other.replace(t, "main.go", `"hello\n"`, `"hello again\n"`)
	runs := []*running{one.start(t, param("event-time", "100")), other.start(t, param("event-time", "200"))}
	older, newer := runs[0].end(t), succeeded(t, runs[1])
	if !older.Succeeded() {
		says(t, older, "deploy", "deploy", step.ExitFailed, "deploy: overtaken: a newer run …")
	}
	if digest := older.Result("build", "IMAGE_DIGEST"); digest == "" || digest == newer.Result("build", "IMAGE_DIGEST") {
		t.Errorf("one of the two apps has the digest %q, the other %q", digest, newer.Result("build", "IMAGE_DIGEST"))
	}
	other.answers(t, "/", "hello again")

	claim, err := s.Kube.CoreV1().PersistentVolumeClaims(s.namespace).Get(t.Context(), "slipway", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if modes := claim.Spec.AccessModes; len(modes) != 1 || modes[0] != corev1.ReadWriteOnce {
		t.Errorf("the claim's access modes are %v", modes)
	}
	volume, err := s.Kube.CoreV1().PersistentVolumes().Get(t.Context(), claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if claim.Status.Phase != corev1.ClaimBound || volume.Status.Phase != corev1.VolumeBound {
		t.Errorf("the claim is %s, its volume %s", claim.Status.Phase, volume.Status.Phase)
	}
	if left := s.onClaim(t, "runs"); left != "" {
		t.Errorf("the runs have left %s", left)
	}
	if kept := s.onClaim(t, "cache"); !strings.Contains(kept, "go-build") || !strings.Contains(kept, "bases") {
		t.Errorf("the caches are %q", kept)
	}
}

// However a run is made to end: nothing is half-deployed, no image is claimed
// to be there, its pod ends at once, and the next run works.
func TestStoppedRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.newApp(t, "page")
	page.succeeds(t)
	page.answers(t, "/", "the first page")
	before := page.deployed(t)

	cancel := func(how string) func(*testing.T, *running) {
		return func(t *testing.T, r *running) {
			patch, err := json.Marshal(map[string]any{"spec": map[string]any{"status": how}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Tekton.TektonV1().PipelineRuns(s.namespace).Patch(t.Context(), r.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("group", func(t *testing.T) { // ends when all in it have
		for name, tc := range map[string]struct {
			run     func(*v1.PipelineRun)
			stop    func(*testing.T, *running)
			reason  string
			cleaned bool
		}{
			"cancelled": {
				stop:   cancel(v1.PipelineRunSpecStatusCancelled),
				reason: v1.PipelineRunReasonCancelled.String(), // and what was fetched is removed by the next day's runs
			},
			"cancelled, with its finally": {
				stop:   cancel(v1.PipelineRunSpecStatusCancelledRunFinally),
				reason: v1.PipelineRunReasonCancelled.String(), cleaned: true,
			},
			"a build that takes too long": {
				run:    timeout("build", 20*time.Second),
				reason: v1.PipelineRunReasonFailed.String(), cleaned: true,
			},
			"a run that takes too long": {
				run: func(run *v1.PipelineRun) {
					run.Spec.Timeouts = &v1.TimeoutFields{Pipeline: &metav1.Duration{Duration: 5 * time.Minute}, Tasks: &metav1.Duration{Duration: 30 * time.Second}}
				},
				reason: v1.PipelineRunReasonFailed.String(), cleaned: true,
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				slow := s.newApp(t, "page")
				slow.write(t, "Dockerfile", "FROM busybox\nRUN sleep 600\n")
				var changes []func(*v1.PipelineRun)
				if tc.run != nil {
					changes = append(changes, tc.run)
				}
				r := slow.start(t, changes...)
				if tc.stop != nil {
					r.reaches(t, "Running: [/bin/sh -c sleep 600]")
					tc.stop(t, r)
				}
				run := r.end(t)
				if reason := run.Status.GetCondition(apis.ConditionSucceeded).GetReason(); reason != tc.reason {
					t.Errorf("the run has ended as %s (%s), want %s", reason, run.Message(), tc.reason)
				}
				r.podGone(t, "build")
				notBuilt(t, run)
				if after := page.deployed(t); after != before {
					t.Errorf("%s, was: %s", after, before)
				}
				if left := s.onClaim(t, "runs"); tc.cleaned && strings.Contains(left, string(run.UID)) {
					t.Errorf("the run has left its source on the claim: %s", left)
				}
			})
		}
	})

	page.write(t, "index.html", "the next page\n")
	page.succeeds(t)
	page.answers(t, "/", "the next page")
}

// A registry secret reaches the push, and the nodes' pull where the overlay
// says so.
func TestPrivateRegistry(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	login, err := json.Marshal(map[string]any{"auths": map[string]any{
		cluster.PrivateRegistry: map[string]string{"username": cluster.PrivateUser, "password": cluster.PrivatePassword},
	}})
	if err != nil {
		t.Fatal(err)
	}
	// The name that examples/app/run.yaml binds to the workspace dockerconfig.
	if _, err := s.Kube.CoreV1().Secrets(s.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "slipway-registry"},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: login},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	page := s.newApp(t, "page")
	page.replace(t, "overlay/deployment.yaml", "      containers:", "      imagePullSecrets: [{name: slipway-registry}]\n      containers:")
	// What a RUN instruction finds of the secret would be in the page. The
	// pattern does not match itself.
	last := len(cluster.PrivatePassword) - 1
	pattern := cluster.PrivatePassword[:last] + "[" + cluster.PrivatePassword[last:] + "]"
	page.write(t, "Dockerfile", `FROM busybox
COPY index.html /www/
RUN grep -rle '`+pattern+`' /workspace /tekton /kaniko /slipway /root /var/run >/www/leaks; true
ENTRYPOINT ["httpd", "-f", "-p", "8080", "-h", "/www"]
`)
	run := page.succeeds(t, func(run *v1.PipelineRun) {
		flow.SetParam(run, "image", *v1.NewStructuredValues(cluster.PrivateRegistry + "/page"))
		flow.SetParam(run, "skip-unchanged", *v1.NewStructuredValues("false")) // another run of this test has pushed there
		flow.SetParam(run, "insecure-registries", flow.Array(s.InsecureRegistry, cluster.PrivateRegistry))
	})
	if url, want := run.Result("build", "IMAGE_URL"), cluster.PrivateRegistry+"/page:latest"; url != want {
		t.Errorf("IMAGE_URL is %s, want %s", url, want)
	}
	page.answers(t, "/", "the first page")
	leaks, err := s.Ask(t.Context(), s.namespace, "page", "/leaks")
	if err != nil {
		t.Fatal(err)
	}
	if leaks != "" {
		t.Errorf("a RUN instruction found the password in %s", leaks)
	}
}
