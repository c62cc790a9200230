package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

func testSite(contender string) *site {
	return &site{
		Cluster:   &flow.Cluster{Registry: "registry.example:5000", InsecureRegistry: "registry.example:5000", GoProxy: "http://proxy.example", RegistryMaps: []string{"gcr.io=registry.example:5000"}},
		contender: contender, size: "small", app: apps["small"], namespace: "bench-" + contender + "-small",
	}
}

// What skaffold is run with is the seed's file, but for the names of the
// cluster; the first of it, without proxy and caches.
func TestSkaffoldRunsWithTheSeedsFile(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(filepath.Join(cluster.Root(), "examples", "feed-agg", "skaffold.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]skaffold{"skaffold-final": {final: true}, "skaffold-baseline": {}} {
		got, err := k.config(example, "here", testSite(name))
		if err != nil {
			t.Fatal(err)
		}
		golden, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(golden), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Every pipeline's run can be made of its template, with the params that its
// task has.
func TestPipelineRuns(t *testing.T) {
	t.Parallel()
	for name, c := range contestants {
		p, ok := c.contender.(pipeline)
		if !ok {
			continue
		}
		s := testSite(name)
		var task struct {
			Spec struct {
				Params []struct {
					Name    string `json:"name"`
					Default any    `json:"default"`
				} `json:"params"`
				Steps []struct {
					Name string `json:"name"`
				} `json:"steps"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(p.task), &task); err != nil {
			t.Fatal(err)
		}
		given := p.params(s)
		for _, param := range task.Spec.Params {
			if _, ok := given[param.Name]; !ok && param.Default == nil {
				t.Errorf("%s: param %s is not given", name, param.Name)
			}
			delete(given, param.Name)
		}
		if len(given) > 0 {
			t.Errorf("%s: params that the task does not have: %v", name, given)
		}
		if last := task.Spec.Steps[len(task.Spec.Steps)-1].Name; "step-"+last != p.step {
			t.Errorf("%s: %s is taken for the step that builds, which is %s", name, p.step, last)
		}
		run, err := p.manifest(s, "http://git.example/r.git", "c0ffee")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		build := run.Spec.PipelineSpec.Tasks[1]
		if hasCache := len(build.Workspaces) == 2; hasCache != p.caches {
			t.Errorf("%s: workspaces %v", name, build.Workspaces)
		}
	}
}
