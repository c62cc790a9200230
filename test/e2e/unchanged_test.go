package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/slipway-ci/slipway/test/flow"
)

// unchanged wants a run to have built nothing, and to have the image all the
// same.
func unchanged(t *testing.T, run *flow.Run, digest string) {
	t.Helper()
	report, err := run.Report()
	if err != nil {
		t.Fatal(err)
	}
	if report.Unchanged == nil {
		t.Error("something was built")
	}
	if got := run.Result("build", "IMAGE_DIGEST"); got != digest {
		t.Errorf("IMAGE_DIGEST is %s, want %s", got, digest)
	}
	says := func(line string) bool {
		return slices.ContainsFunc(run.Log, func(said string) bool { return strings.Contains(said, line) })
	}
	if !says("nothing to build: the inputs are those of " + digest) {
		t.Error("kaniko's step does not say that there is nothing to build")
	}
	if says("Retrieving image manifest") || says("base golang") {
		t.Error("kaniko ran, or a base image was fetched")
	}
}

func built(t *testing.T, run *flow.Run, why string) (digest string) {
	t.Helper()
	if report, err := run.Report(); err != nil || report.Unchanged != nil {
		t.Errorf("nothing was built: %+v, %v", report, err)
	}
	if !slices.ContainsFunc(run.Log, func(said string) bool { return matches(said, "prepare: unchanged: no: "+why) }) {
		t.Errorf("prepare does not say why it is built: %s", why)
	}
	return run.Result("build", "IMAGE_DIGEST")
}

func TestUnchangedMeansNoBuild(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hello := s.newApp(t, "hello")
	hello.replace(t, "Dockerfile", "COPY . .", "COPY go.mod main.go ./")
	hello.write(t, "README.md", "# hello\n")

	first := hello.succeeds(t)
	digest := built(t, first, "nothing is known to have been built from these inputs")
	hello.answers(t, "/", "hello\n")

	hello.write(t, "README.md", "# hello, in no image\n")
	readme := hello.succeeds(t)
	unchanged(t, readme, digest)
	if report, err := readme.Report(); err != nil || report.Unchanged == nil || report.Unchanged.By != s.namespace+"/"+first.Tasks["build"].Name {
		t.Errorf("the report is %+v, %v; %s built the image", report.Unchanged, err, first.Tasks["build"].Name)
	}
	if changes := readme.Result("deploy", "changes"); changes != "0 created, 0 configured, 2 unchanged" {
		t.Errorf("deploy: %s", changes)
	}

	hello.replace(t, "main.go", `"hello\n"`, `"hello again\n"`)
	line := hello.succeeds(t)
	if other := built(t, line, "changed since the build of "+s.namespace+"/"+first.Tasks["build"].Name+", … ago: context: main.go"); other == digest {
		t.Errorf("one line changed, and the digest is %s still", other)
	}
	hello.answers(t, "/", "hello again\n")

	// Back to what is there: no build, and the app is the first again.
	hello.replace(t, "main.go", `"hello again\n"`, `"hello\n"`)
	back := hello.succeeds(t)
	unchanged(t, back, digest)
	hello.answers(t, "/", "hello\n")

	// Somebody points the record at something else.
	repository := s.namespace + "-hello"
	tags := slices.DeleteFunc(s.tags(t, repository), func(tag string) bool { return !strings.HasPrefix(tag, "slipway-inputs-") })
	if len(tags) != 3 { // of two images, and the last
		t.Fatalf("the records are %q", tags)
	}
	other, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		s.push(t, repository, tag, other)
	}
	foreign := hello.succeeds(t)
	if again := built(t, foreign, "…: it is something else, no application/vnd.slipway.inputs.v1+json"); again != digest {
		t.Errorf("built anew it is %s, was %s", again, digest)
	}
	if !slices.ContainsFunc(foreign.Log, func(line string) bool { return strings.Contains(line, "will not know of this one: ") }) {
		t.Error("push does not say that the record is not kept")
	}
}

// tags are a repository's in the registry.
func (s *site) tags(t *testing.T, repository string) []string {
	t.Helper()
	ref, options := s.inRegistry(t, repository, "latest")
	tags, err := remote.List(ref.Repository, options...)
	if err != nil {
		t.Fatal(err)
	}
	return tags
}

// A build with nothing to build, beside a TaskRun of as many steps that do
// nothing at all: the figures are for a person to compare.
func TestUnchangedBesideANoOp(t *testing.T) {
	s := newSite(t)
	hello := s.newApp(t, "hello")
	source, output := s.claim("source", "source"), s.claim("output", "source")
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", hello.URL()), stringParam("revision", hello.push(t))},
		Workspaces: []v1.WorkspaceBinding{output},
	})
	if err := s.Apply(t.Context(), s.namespace, `{apiVersion: tekton.dev/v1, kind: Task, metadata: {name: no-op}, spec: {steps: [
  {name: one, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]},
  {name: two, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]},
  {name: three, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}]}}`); err != nil {
		t.Fatal(err)
	}
	build := v1.TaskRunSpec{
		Params: v1.Params{
			stringParam("image", s.Images+"hello"), stringParam("go-proxy", s.GoProxy),
			{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)}, {Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)},
		},
		Workspaces: []v1.WorkspaceBinding{source, s.claim("cache", "cache"), s.claim("toolchains", "cache/toolchains")},
	}
	digest := s.task(t, "slipway-build", build)["IMAGE_DIGEST"]
	var noOps, builds []time.Duration
	for range 5 {
		started := time.Now()
		s.task(t, "no-op", v1.TaskRunSpec{})
		noOps = append(noOps, time.Since(started))
		started = time.Now()
		results := s.task(t, "slipway-build", build)
		builds = append(builds, time.Since(started))
		if results["IMAGE_DIGEST"] != digest || !strings.Contains(results["build-report"], `"unchanged":{`) {
			t.Errorf("the build is %q, want %s unchanged", results, digest)
		}
		t.Logf("no-op %.1f s, unchanged build %.1f s, its report %s", noOps[len(noOps)-1].Seconds(), builds[len(builds)-1].Seconds(), results["build-report"])
	}
	slices.Sort(noOps)
	slices.Sort(builds)
	t.Logf("medians: no-op %.1f s, unchanged build %.1f s", noOps[2].Seconds(), builds[2].Seconds())
}
