package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/slipway-ci/slipway/test/flow"
)

// A build on a volume that is new has the layers of one before: what a RUN
// installed is not asked for again, and the image is the same.
func TestLayerCache(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var asked atomic.Int32
	repository := onNode(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, packages[path.Base(r.URL.Path)])
	}))
	base := with(t, s.pullTag(t, "library/alpine", "latest"), map[string]string{"sbin/apk": packageManager("http://" + repository)})
	s.push(t, s.namespace+"/base", "1", base)

	page := s.newApp(t, "page")
	page.write(t, "Dockerfile", fmt.Sprintf(`FROM %s/%s/base:1
RUN apk add --no-cache ca-certificates && dd if=/dev/zero of=/var/big bs=1M count=100
RUN apk add --no-cache tzdata
COPY index.html /www/
RUN cp /www/index.html /www/copy.html
`, s.Registry, s.namespace))
	build := func(t *testing.T, params ...v1.Param) (run *v1.TaskRun, digest string, installed int32) {
		t.Helper()
		s.task(t, "git-clone", v1.TaskRunSpec{
			Params:     v1.Params{stringParam("url", page.URL()), stringParam("revision", page.push(t))},
			Workspaces: []v1.WorkspaceBinding{s.claim("output", "layers")},
		})
		before := asked.Load()
		run = s.tryTask(t, "slipway-build", v1.TaskRunSpec{
			Params: append(v1.Params{
				stringParam("image", s.Images+"page"),
				stringParam("skip-unchanged", "false"),
				stringParam("single-snapshot", "false"),
				{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)},
				{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)},
			}, params...),
			Workspaces: []v1.WorkspaceBinding{s.claim("source", "layers")},
		})
		if !run.IsSuccessful() {
			t.Fatal(s.taskLog(t, run))
		}
		for _, result := range run.Status.Results {
			switch result.Name {
			case "IMAGE_DIGEST":
				digest = result.Value.StringVal
			case "build-report":
				t.Log(result.Value.StringVal)
			}
		}
		return run, digest, asked.Load() - before
	}
	cache := stringParam("layer-cache-repo", s.Registry+"/"+s.namespace+"/cache")

	run, first, installed := build(t, cache)
	if text := s.taskLog(t, run); installed != 2 || !strings.Contains(text, "layer cache: 0 layers used, 3 new (") {
		t.Errorf("the first build installed %d packages, want 2\n%s", installed, text)
	}
	page.write(t, "index.html", "another page")
	run, second, installed := build(t, cache)
	if text := s.taskLog(t, run); installed != 0 || !strings.Contains(text, "layer cache: 2 layers used, 1 new (") {
		t.Errorf("with another page %d packages were installed, want none\n%s", installed, text)
	}
	if first == second {
		t.Errorf("both pages have the image %s", first)
	}
	run, third, installed := build(t, cache)
	if text := s.taskLog(t, run); installed != 0 || third != second || !strings.Contains(text, "layer cache: 3 layers used, 0 new (") {
		t.Errorf("the same again installed %d packages and gives %s, want none and %s\n%s", installed, third, second, text)
	}
	if _, without, installed := build(t); installed != 2 || without != second {
		t.Errorf("without the layer cache %d packages were installed, and the image is %s, want 2 and %s", installed, without, second)
	}
	// Without its layers of RUN it has none of these.
	if _, _, installed := build(t, cache, stringParam("cache-run-layers", "false")); installed != 2 {
		t.Errorf("without layers of RUN %d packages were installed, want 2", installed)
	}
	holdsFiles(t, s.pull(t, "page", second), map[string]string{"www/copy.html": "another page"})
}
