package tasks_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// The pipeline for several images has every param of that for one, but those
// that are an image's own.
func TestSeveralImagesTakeWhatOneTakes(t *testing.T) {
	t.Parallel()
	c := load(t)
	want := byName(c.pipelines["slipway-fetch-build-deploy"].Spec.Params)
	for _, name := range []string{"image", "manifest-image", "context", "dockerfile", "target", "destinations"} {
		delete(want, name)
	}
	got := byName(c.pipelines["slipway-fetch-build-images-deploy"].Spec.Params)
	delete(got, "artifacts")

	name := want["deploy-name"]
	name.Default = nil // no image of a list gives it
	want["deploy-name"] = name
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(pipelinev1.ParamSpec{}, "Description")); diff != "" {
		t.Errorf("params for one image (-) and for several (+):\n%s", diff)
	}
}

// Every pipeline that deploys, the examples' too, says what the order of runs
// and a rollback go by.
func TestDeploysHaveAPlaceAndARevision(t *testing.T) {
	t.Parallel()
	for name, pipeline := range load(t).pipelines {
		for _, task := range pipeline.Spec.Tasks {
			if task.TaskRef == nil || task.TaskRef.Name != "slipway-deploy" {
				continue
			}
			given := map[string]bool{}
			for _, param := range task.Params {
				given[param.Name] = true
			}
			needed := []string{"name", "revision", "run"}
			if !given["rollback-to"] { // that comes after what is deployed, whenever it was asked for
				needed = append(needed, "event-time", "event-id")
			}
			for _, param := range needed {
				if !given[param] {
					t.Errorf("Pipeline %s, task %s: it has no %s", name, task.Name, param)
				}
			}
		}
	}
}
