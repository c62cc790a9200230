package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	containers "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// Both Dockerfiles of the app as they are: from cold caches, from warm ones and
// with none at all, they give the same image.
func TestDockerfilesAsTheyAre(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	feedAgg := s.appFrom(t, flow.App{Name: "feed-agg", Overlay: "kustomize/overlays/cluster30"}, filepath.Join(cluster.Root(), "examples", "feed-agg"))

	cold := feedAgg.succeeds(t)
	feedAgg.answers(t, "/api/items", "feed-agg: all feeds, newest first")
	compiled := report(t, cold)
	if *compiled.Cached != 0 || *compiled.Compiled < 100 {
		t.Errorf("cold: %d packages compiled, %d from the cache", *compiled.Compiled, *compiled.Cached)
	}
	digest := cold.Result("build", "IMAGE_DIGEST")
	img := s.pull(t, "feed-agg", digest)
	holdsOnly(t, img, "bin/feed-agg", "etc/feed-agg/conf.yaml")
	hasTypes(t, img, types.OCIManifestSchema1, types.OCILayer) // its base's, and gzip

	warm := feedAgg.succeeds(t, param("dockerfile", "Dockerfile.baseline"))
	if again := report(t, warm); *again.Compiled != 0 || *again.Cached != *compiled.Compiled {
		t.Errorf("warm: %d packages compiled, %d from the cache", *again.Compiled, *again.Cached)
	}
	if got := warm.Result("build", "IMAGE_DIGEST"); got != digest {
		t.Errorf("Dockerfile.baseline with warm caches gives %s, Dockerfile with cold ones %s", got, digest)
	}
	if changes := warm.Result("deploy", "changes"); changes != "0 created, 0 configured, 2 unchanged" {
		t.Errorf("the same image again: %s", changes)
	}

	feedAgg.replace(t, "main.go", "all feeds, newest first", "all feeds, oldest last")
	line := feedAgg.succeeds(t, param("dockerfile", "Dockerfile.baseline"))
	feedAgg.answers(t, "/api/items", "all feeds, oldest last")
	if one := report(t, line); *one.Compiled != 1 {
		t.Errorf("one line changed: %d packages compiled, %d from the cache", *one.Compiled, *one.Cached)
	}

	// The tasks by themselves, without a pipeline or a cache.
	source := v1.WorkspaceBinding{
		Name: "source", SubPath: "by-hand",
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "slipway"},
	}
	output := source
	output.Name = "output"
	commit := feedAgg.push(t)
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{{Name: "url", Value: *v1.NewStructuredValues(feedAgg.URL())}, {Name: "revision", Value: *v1.NewStructuredValues(commit)}},
		Workspaces: []v1.WorkspaceBinding{output},
	})
	built := s.task(t, "slipway-build", v1.TaskRunSpec{
		Params: v1.Params{
			{Name: "image", Value: *v1.NewStructuredValues(s.Images + "feed-agg:by-hand")},
			{Name: "dockerfile", Value: *v1.NewStructuredValues("Dockerfile.baseline")},
			{Name: "skip-unchanged", Value: *v1.NewStructuredValues("false")},
			{Name: "go-proxy", Value: *v1.NewStructuredValues(s.GoProxy)},
			{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)},
			{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)},
		},
		Workspaces: []v1.WorkspaceBinding{source},
	})
	if got, want := built["IMAGE_DIGEST"], line.Result("build", "IMAGE_DIGEST"); got != want {
		t.Errorf("Dockerfile.baseline without a cache gives %s, with one %s", got, want)
	}
	if got, want := built["IMAGE_URL"], s.Images+"feed-agg:by-hand"; got != want {
		t.Errorf("IMAGE_URL is %s, want %s", got, want)
	}
	deployed := s.task(t, "slipway-deploy", v1.TaskRunSpec{
		ServiceAccountName: "slipway-deploy",
		Params: v1.Params{
			{Name: "overlay", Value: *v1.NewStructuredValues(feedAgg.Overlay)},
			{Name: "namespace", Value: *v1.NewStructuredValues(s.namespace)},
			{Name: "images", Value: flow.Array("feed-agg=" + built["IMAGE_URL"] + "@" + built["IMAGE_DIGEST"])},
		},
		Workspaces: []v1.WorkspaceBinding{source},
	})
	if got := deployed["changes"]; got != "0 created, 1 configured, 1 unchanged" {
		t.Errorf("changes are %q: only the tag of the image is another", got)
	}
	feedAgg.answers(t, "/api/items", "all feeds, oldest last")
}

// A task of ours in a pipeline of somebody's own, with retries: what the first
// try left is no obstacle to the second.
func TestRetriedInAnotherPipeline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.newApp(t, "page")
	// The first try leaves a mark in the cache, and breaks half-way.
	page.write(t, "Dockerfile", `FROM busybox
ARG GOCACHE
COPY index.html /www/
RUN if mkdir "$GOCACHE/tried"; then echo the network is down >&2; exit 1; fi
ENTRYPOINT ["httpd", "-f", "-p", "8080", "-h", "/www"]
`)
	run := page.succeeds(t, func(run *v1.PipelineRun) {
		shipped, err := s.Tekton.TektonV1().Pipelines(s.namespace).Get(t.Context(), "slipway-fetch-build-deploy", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		run.Spec.PipelineRef = nil
		run.Spec.PipelineSpec = &shipped.Spec
		for i := range shipped.Spec.Tasks {
			shipped.Spec.Tasks[i].Retries = 1
		}
	})
	page.answers(t, "/", "the first page")
	tries := run.Tasks["build"].Status.RetriesStatus
	if len(tries) != 1 {
		t.Fatalf("build was tried %d times before it succeeded, want 1", len(tries))
	}
	if len(tries[0].Results) != 0 {
		t.Errorf("the try that failed has results: %v", tries[0].Results)
	}
	hasTypes(t, s.pull(t, "page", run.Result("build", "IMAGE_DIGEST")), types.DockerManifestSchema2, types.DockerLayer)
}

// report is the build's, with counts.
func report(t *testing.T, run *flow.Run) flow.Report {
	t.Helper()
	r, err := run.Report()
	if err == nil && (r.Compiled == nil || r.Cached == nil) {
		err = errors.New("how many packages were compiled is not known")
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// task runs a task by itself and returns its results.
func (s *site) task(t *testing.T, task string, spec v1.TaskRunSpec) map[string]string {
	t.Helper()
	run := s.tryTask(t, task, spec)
	if !run.IsSuccessful() {
		t.Fatalf("%s\n%s", run.Status.GetCondition(apis.ConditionSucceeded).GetMessage(), s.taskLog(t, run))
	}
	results := map[string]string{}
	for _, result := range run.Status.Results {
		results[result.Name] = result.Value.StringVal
	}
	return results
}

// tryTask runs a task to its end, whichever that is.
func (s *site) tryTask(t *testing.T, task string, spec v1.TaskRunSpec, changes ...func(*v1.TaskRun)) *v1.TaskRun {
	t.Helper()
	spec.TaskRef = &v1.TaskRef{Name: task}
	wanted := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{GenerateName: task + "-"}, Spec: spec}
	for _, change := range changes {
		change(wanted)
	}
	runs := s.Tekton.TektonV1().TaskRuns(s.namespace)
	run, err := runs.Create(t.Context(), wanted, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = flow.Eventually(t.Context(), runTimeout, "TaskRun "+run.Name, func(ctx context.Context) error {
		if run, err = runs.Get(ctx, run.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !run.IsDone() {
			return errors.New("it has not ended")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.taskLog(t, run))
	}
	return run
}

// taskLog is what the steps of a run have said.
func (s *site) taskLog(t *testing.T, run *v1.TaskRun) string {
	t.Helper()
	var text strings.Builder
	for _, state := range run.Status.Steps {
		log, err := s.Kube.CoreV1().Pods(s.namespace).GetLogs(run.Status.PodName, &corev1.PodLogOptions{Container: state.Container}).DoRaw(t.Context())
		fmt.Fprintf(&text, "the log of step %s (%v):\n%s", state.Name, err, log)
	}
	return text.String()
}

// pull is an image of the registry.
func (s *site) pull(t *testing.T, repository, digest string) containers.Image {
	t.Helper()
	options := []name.Option{}
	if s.InsecureRegistry == s.Registry {
		options = append(options, name.Insecure)
	}
	ref, err := name.NewDigest(s.Images+""+repository+"@"+digest, options...)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if cluster.Local() {
		// The names of services are known to pods only.
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, net.JoinHostPort(cluster.NodeIP, port))
		}
	}
	img, err := remote.Image(ref, remote.WithContext(t.Context()), remote.WithTransport(transport))
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return img
}

// filesOf lists everything in layers that is no folder, once; look is called
// with each.
func filesOf(t *testing.T, layers []containers.Layer, look func(file string, content io.Reader)) []string {
	t.Helper()
	var found []string
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for archive := tar.NewReader(content); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if header.Typeflag != tar.TypeDir {
				file := strings.TrimPrefix(header.Name, "/")
				found = append(found, file)
				look(file, archive)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// hasTypes wants an image and all its layers to be of these types.
func hasTypes(t *testing.T, img containers.Image, image, layer types.MediaType) {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != image {
		t.Errorf("the image is %s, want %s", manifest.MediaType, image)
	}
	for _, l := range manifest.Layers {
		if l.MediaType != layer {
			t.Errorf("layer %s is %s, want %s", l.Digest, l.MediaType, layer)
		}
	}
}

// holdsOnly wants an image to have these files on top of its base, its first
// layer, and neither there nor in its configuration a word of how it was built.
func holdsOnly(t *testing.T, img containers.Image, files ...string) {
	t.Helper()
	traces := []string{"/workspace", "/slipway", "go-build", "go-mod", "GOCACHE", "GOMODCACHE", "GOPROXY", cluster.GoProxy}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found := filesOf(t, layers[1:], func(file string, content io.Reader) {
		if file != "bin/feed-agg" {
			return
		}
		// A program holds names of its own; those of folders would be ours.
		program, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		for _, trace := range []string{"/workspace/", "/slipway-", "/go/pkg/mod/"} {
			if bytes.Contains(program, []byte(trace)) {
				t.Errorf("%s knows of %s", file, trace)
			}
		}
	})
	if !slices.Equal(found, files) {
		t.Errorf("the image holds %q on top of its base, want %q", found, files)
	}
	for _, trace := range traces {
		if bytes.Contains(config, []byte(trace)) {
			t.Error(fmt.Sprintf("the image's configuration knows of %s:", trace), string(config))
		}
	}
}
