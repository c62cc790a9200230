package e2e

import (
	"testing"

	"github.com/slipway-ci/slipway/internal/step"
)

// An app goes back to the deploy before, without a build, and a run that is
// older than what it overrides does not bring the newer one back.
func TestRollback(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.newApp(t, "page")
	name := param("deploy-name", "page") // that of the example; by itself it would be the image's
	first := page.succeeds(t, name, param("event-time", "100"), param("event-id", "first"))
	page.replace(t, "index.html", "the first page", "the second page")
	page.succeeds(t, name, param("event-time", "200"), param("event-id", "second"))
	page.answers(t, "/", "the second page")

	back, err := s.NewRollback(s.namespace, page.App, first.Result("fetch", "commit"))
	if err != nil {
		t.Fatal(err)
	}
	started, err := s.Start(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	run := succeeded(t, s.follow(t, started))
	page.answers(t, "/", "the first page")
	if got, want := run.Result("rollback", "changes"), "0 created, 1 configured, 1 unchanged"; got != want {
		t.Errorf("changes: %q, want %q", got, want)
	}
	if left := s.onClaim(t, "runs"); left != "" {
		t.Errorf("the runs have left %s", left)
	}

	again := page.start(t, name, param("event-time", "200"), param("event-id", "second"))
	says(t, again.end(t), "deploy", "deploy", step.ExitFailed, "deploy: overtaken: a newer run is deployed: …")
	page.answers(t, "/", "the first page")
}
