package e2e

import (
	"testing"

	"github.com/slipway-ci/slipway/internal/step"
)

// The pipeline in one pod does what that of three does: the same image, the
// same app, the same results. A RUN that searches every file does not find the
// token of the pod's service account, which may deploy.
func TestOnePod(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.newApp(t, "page")
	name := param("deploy-name", "page")
	apart := page.succeeds(t, name, param("event-time", "100"), param("event-id", "first"), param("skip-unchanged", "false"))

	together := page.onePod(t, name, param("event-time", "200"), param("event-id", "second"), param("skip-unchanged", "false"))
	run := succeeded(t, together)
	page.answers(t, "/", "")
	if got, want := run.Result("run", "IMAGE_DIGEST"), apart.Result("build", "IMAGE_DIGEST"); got != want || got == "" {
		t.Errorf("the digest in one pod is %q, in three %q", got, want)
	}
	if got, want := run.Result("run", "IMAGE_URL"), apart.Result("build", "IMAGE_URL"); got != want {
		t.Errorf("IMAGE_URL in one pod is %q, in three %q", got, want)
	}
	for _, result := range run.Tasks["run"].Status.Results {
		if result.Name == "image-urls" && (len(result.Value.ArrayVal) != 1 || result.Value.ArrayVal[0] != run.Result("run", "IMAGE_URL")) {
			t.Errorf("image-urls: %v", result.Value)
		}
	}
	if got, want := run.Result("run", "changes"), "0 created, 0 configured, 2 unchanged"; got != want {
		t.Errorf("changes: %q, want %q", got, want)
	}
	if len(run.Tasks) != 1 {
		t.Errorf("it had %d TaskRuns", len(run.Tasks))
	}
	if left := s.onClaim(t, "runs"); left != "" {
		t.Errorf("the runs have left %s", left)
	}

	// What is older stops here as well, and what fails says so as its step does.
	says(t, page.onePod(t, name, param("event-time", "150"), param("event-id", "between")).end(t), "run", "deploy", step.ExitFailed, "deploy: overtaken: a newer run is deployed: …")

	page.write(t, "Dockerfile", "FROM busybox AS search\n"+
		"RUN echo marker >/tmp/marker; "+
		`find / \( -path /proc -o -path /sys \) -prune -o -type f -exec grep -lEs '`+tokenHeader+`|^marke[r]$' {} + >/found; `+
		`cat /found; test "$(cat /found)" = /tmp/marker`+"\n"+
		"RUN ln -s /var/run/secrets/kubernetes.io/serviceaccount/token /tekton/artifacts/provenance.json && exit 1; "+
		"ln -s /var/run/secrets/kubernetes.io/serviceaccount/token /tekton/results/changes && exit 1; true\n"+
		"FROM busybox\nCOPY --from=search /found /www/\nCOPY index.html /www/\n"+
		`ENTRYPOINT ["httpd", "-f", "-p", "8080", "-h", "/www"]`+"\n")
	run = succeeded(t, page.onePod(t, name, param("event-time", "300")))
	page.answers(t, "/found", "/tmp/marker")
	s.publishesNothing(t, run.Tasks["run"])
}
