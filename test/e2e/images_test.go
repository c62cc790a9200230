package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// shop is the example with two services, which share a base image.
func (s *site) newShop(t *testing.T) *app {
	t.Helper()
	return s.appFrom(t, flow.App{Name: "shop", Overlay: "deploy"}, filepath.Join(cluster.Root(), "examples", "shop"))
}

// run starts a run of a pipeline for the working copy.
func (a *app) runs(t *testing.T, pipeline string, params ...v1.Param) *flow.Run {
	t.Helper()
	claim := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "slipway"}
	run := &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-", Namespace: a.namespace},
		Spec: v1.PipelineRunSpec{
			PipelineRef: &v1.PipelineRef{Name: pipeline},
			Params: append(v1.Params{
				stringParam("repo-url", a.URL()), stringParam("revision", a.push(t)),
				stringParam("overlay", a.Overlay), stringParam("namespace", a.namespace), stringParam("go-proxy", a.GoProxy),
				{Name: "registry-maps", Value: flow.Array(a.RegistryMaps...)},
				{Name: "insecure-registries", Value: flow.Array(a.InsecureRegistry)},
			}, params...),
			Workspaces: []v1.WorkspaceBinding{{Name: "shared", PersistentVolumeClaim: claim}},
			TaskRunSpecs: []v1.PipelineTaskRunSpec{
				{PipelineTaskName: "deploy", ServiceAccountName: "slipway-deploy"},
			},
		},
	}
	name, err := a.Start(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	return succeeded(t, a.follow(t, name))
}

// onlyBuilt wants a run to have built the images of these of its tasks, and to
// have taken the others as they are.
func onlyBuilt(t *testing.T, run *flow.Run, all []string, want ...string) {
	t.Helper()
	var got []string
	for _, task := range all {
		report, err := run.ReportOf(task)
		if err != nil {
			t.Fatal(err)
		}
		if report.Unchanged == nil {
			got = append(got, task)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("built are %q, want %q", got, want)
	}
}

func TestSeveralImages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	shop := s.newShop(t)
	pipeline, err := os.ReadFile(filepath.Join(cluster.Root(), "examples", "shop", "pipeline.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), s.namespace, string(pipeline)); err != nil {
		t.Fatal(err)
	}
	api, web := *shop, *shop
	api.Name, web.Name = "shop-api", "shop-web"

	// One base, and two services on it.
	all := []string{"base", "build-api", "build-web"}
	images := stringParam("images", s.Images+"shop-")
	first := shop.runs(t, "shop", images)
	onlyBuilt(t, first, all, all...)
	api.answers(t, "/", `the corner shop, api {"items": 3}`)
	web.answers(t, "/", "the corner shop, web <h1>welcome</h1>")

	shop.replace(t, "api/main.go", "items", "things")
	onlyBuilt(t, shop.runs(t, "shop", images), all, "build-api")
	api.answers(t, "/", `{"things": 3}`)

	shop.write(t, "base/name", "the shop round the corner, ")
	onlyBuilt(t, shop.runs(t, "shop", images), all, all...)
	api.answers(t, "/", "the shop round the corner, api")
	web.answers(t, "/", "the shop round the corner, web")

	shop.write(t, "README.md", "in no image\n")
	last := shop.runs(t, "shop", images)
	onlyBuilt(t, last, all)
	if changes := last.Result("deploy", "changes"); changes != "0 created, 0 configured, 4 unchanged" {
		t.Errorf("deploy: %s", changes)
	}

	// The pipeline that is shipped, with a list: other names, and no base of ours.
	list := v1.Param{Name: "artifacts", Value: flow.Array(
		"name=api image="+s.Images+"listed-api:v1 dockerfile=api/Dockerfile",
		"name=web image="+s.Images+"listed-web:v1 dockerfile=web/Dockerfile")}
	name := stringParam("deploy-name", "shop")
	listed := shop.runs(t, "slipway-fetch-build-images-deploy", list, name)
	onlyBuilt(t, listed, all[1:], all[1:]...)
	web.answers(t, "/", "no such file or directory <h1>welcome</h1>")
	var results []string
	for _, result := range listed.Status.Results {
		if result.Name == "images" {
			results = result.Value.ArrayVal
		}
	}
	if want := []string{
		"api=" + s.Images + "listed-api:v1@" + listed.Result("build-api", "IMAGE_DIGEST"),
		"web=" + s.Images + "listed-web:v1@" + listed.Result("build-web", "IMAGE_DIGEST"),
	}; !slices.Equal(results, want) {
		t.Errorf("the result images is %q, want %q", results, want)
	}
	shop.replace(t, "web/main.go", "welcome", "come in")
	onlyBuilt(t, shop.runs(t, "slipway-fetch-build-images-deploy", list, name), all[1:], "build-web")
	web.answers(t, "/", "<h1>come in</h1>")
}
