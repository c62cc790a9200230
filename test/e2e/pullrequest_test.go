package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/test/flow"
)

// A pull request of a stranger's is built and leaves nothing: no image, no
// source, and no word of its own where a status check looks.
func TestPullRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	app := s.appFrom(t, flow.App{Name: "stranger"}, filepath.Join("testdata", "hello"))
	app.write(t, "Dockerfile", "FROM golang:alpine AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o /app .\n"+
		"RUN ls /workspace /var/run/secrets/kubernetes.io/serviceaccount; test -z \"$(ls /var/run/secrets/kubernetes.io/serviceaccount)\"\n"+
		"RUN touch /tekton/results/commit && exit 1; echo '[{\"key\":\"IMAGE_DIGEST\",\"value\":\"forged\",\"type\":1}]' >/tekton/termination\n"+
		"FROM scratch\nCOPY --from=build /app /app\n")
	start := func(commit string) *flow.Run {
		run, manifests, err := s.NewPullRequest(s.namespace, app.App, commit, "refs/heads/main")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(t.Context(), s.namespace, manifests); err != nil {
			t.Fatal(err)
		}
		name, err := s.Start(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		return s.follow(t, name).end(t)
	}
	commit := app.push(t)
	run := start(commit)
	if !run.Succeeded() {
		t.Fatal(run.Message())
	}
	if got := run.Result("fetch", "commit"); got != commit {
		t.Errorf("commit %s was fetched, want %s", got, commit)
	}
	for _, result := range run.Tasks["build"].Status.Results {
		if result.Name != "build-report" && result.Value.StringVal != "" {
			t.Errorf("%s is %q", result.Name, result.Value.StringVal)
		}
	}
	ref, options := s.inRegistry(t, strings.TrimPrefix(s.Images, s.Registry+"/")+"stranger", "latest")
	if _, err := remote.Head(ref, options...); err == nil {
		t.Errorf("there is %s", ref)
	}

	// What the status is for is what is built, or nothing is.
	app.write(t, "more", "")
	app.push(t)
	if run := start(commit); run.Succeeded() {
		t.Errorf("a commit that the request has left was built: %s", run.Result("fetch", "commit"))
	}
}
