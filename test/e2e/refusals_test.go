package e2e

import (
	"slices"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

// Each way to get a run wrong: it fails, its last line says what and why, and
// the app that was deployed before goes on as it was.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.newApp(t, "page").succeeds(t)
	page := s.newApp(t, "page")
	page.answers(t, "/", "the first page")
	before := page.deployed(t)

	t.Run("group", func(t *testing.T) { // ends when all in it have
		for name, tc := range map[string]struct {
			wrong      func(t *testing.T, a *app)
			run        func(*v1.PipelineRun)
			task, step string
			code       int32
			says       string
			shows      string // a line above that
			pushed     bool
		}{
			"no Dockerfile": {
				wrong: func(t *testing.T, a *app) {
					if err := a.Remove("Dockerfile"); err != nil {
						t.Fatal(err)
					}
				},
				task: "build", step: "prepare", code: step.ExitBadInput,
				says: "prepare: no Dockerfile: the source workspace has no file Dockerfile; set the params context and dockerfile",
			},
			"a Dockerfile that does not parse": {
				wrong: func(t *testing.T, a *app) { a.replace(t, "Dockerfile", "COPY index", "COPPY index") },
				task:  "build", step: "prepare", code: step.ExitBadInput,
				says: "prepare: Dockerfile:2: unknown instruction: COPPY (did you mean COPY?)",
			},
			"a build that does not compile": {
				wrong: func(t *testing.T, a *app) {
					a.write(t, "go.mod", "module example.com/page\n\ngo 1.26\n")
					a.write(t, "main.go", "package main\n\nfunc main() { serve() }\n")
					a.write(t, "Dockerfile", "FROM golang:alpine\nWORKDIR /src\nCOPY . .\nRUN go build -o /bin/page\n")
				},
				task: "build", step: "build", code: step.ExitFailed,
				says:  "Dockerfile:4: RUN go build -o /bin/page: failed after … s, exit status 1…",
				shows: "./main.go:3:15: undefined: serve",
			},
			"a registry that refuses the push": {
				run: func(run *v1.PipelineRun) {
					param("image", cluster.PrivateRegistry+"/page")(run)
					flow.SetParam(run, "insecure-registries", flow.Array(s.InsecureRegistry, cluster.PrivateRegistry))
				},
				task: "build", step: "push", code: step.ExitBadInput,
				says: "push: push " + cluster.PrivateRegistry + "/page:latest: registry " + cluster.PrivateRegistry +
					" refused to push page (401, Unauthorized): bind the workspace dockerconfig to a registry secret with the right to push there",
			},
			"a registry without TLS": {
				run:  param("image", cluster.PrivateRegistry+"/page"),
				task: "build", step: "push", code: step.ExitBadInput,
				says: "push: push " + cluster.PrivateRegistry + "/page:latest: registry " + cluster.PrivateRegistry +
					" speaks plain HTTP: if its network can be trusted, name it in the param insecure-registries",
			},
			"no overlay": {
				run:  param("overlay", "overlays/moon"),
				task: "deploy", step: "deploy", code: step.ExitBadInput, pushed: true,
				says: "deploy: overlay overlays/moon: no such file or folder in the source",
			},
			"a broken overlay": {
				wrong: func(t *testing.T, a *app) { a.replace(t, "overlay/kustomization.yaml", "service", "srevice") },
				task:  "deploy", step: "deploy", code: step.ExitBadInput, pushed: true,
				says: "deploy: overlay overlay: overlay/kustomization.yaml: resources: srevice.yaml: no such file or folder in the source",
			},
			"an object that the cluster refuses": {
				wrong: func(t *testing.T, a *app) {
					a.replace(t, "overlay/service.yaml", "targetPort: 8080", "targetPort: 80800")
				},
				task: "deploy", step: "deploy", code: step.ExitBadInput, pushed: true,
				says: "deploy: service/page in namespace " + s.namespace + `: Service "page" is invalid: spec.ports[0].targetPort: Invalid value: 80800: must be between 1 and 65535, inclusive; mend the manifest (nothing was changed)`,
			},
			"an image that no manifest uses": {
				run:  param("manifest-image", "sheet"),
				task: "deploy", step: "deploy", code: step.ExitBadInput, pushed: true,
				says: "deploy: image sheet is used in no manifest of the overlay, which has page; use that name in the manifests, or give the image as <name in the manifests>=" +
					s.Images + "page:latest@sha256:…",
			},
			"no claim": {
				run: func(run *v1.PipelineRun) {
					run.Spec.Workspaces[0].PersistentVolumeClaim.ClaimName = "moon"
					timeout("fetch", 8*time.Second)(run)
				},
				task: "explain", step: "explain", code: step.ExitBadInput,
				says: "explain: fetch never began: claim moon does not exist in namespace " + s.namespace +
					": create that PersistentVolumeClaim, or name another in the PipelineRun's workspaces",
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				a := s.newApp(t, "page")
				a.write(t, "index.html", "a page that nobody must see: "+name+"\n")
				if tc.wrong != nil {
					tc.wrong(t, a)
				}
				var changes []func(*v1.PipelineRun)
				if tc.run != nil {
					changes = append(changes, tc.run)
				}
				run := a.start(t, changes...).end(t)
				says(t, run, tc.task, tc.step, tc.code, tc.says)
				if tc.shows != "" && !slices.Contains(run.Log, tc.step+": "+tc.shows) {
					t.Errorf("the log has no line %q", tc.shows)
				}
				if !tc.pushed {
					notBuilt(t, run)
				} else if run.Result("build", "IMAGE_DIGEST") == "" {
					t.Error("IMAGE_DIGEST is not set, and the image was pushed")
				}
				if after := a.deployed(t); after != before {
					t.Errorf("%s, was: %s", after, before)
				}
			})
		}
	})

	// Last, as what it applies stays.
	t.Run("an app that crashes", func(t *testing.T) {
		a := s.newApp(t, "page")
		a.write(t, "Dockerfile", "FROM busybox\nENTRYPOINT [\"sh\", \"-c\", \"echo the engine is on fire >&2; exit 7\"]\n")
		r := a.start(t, param("rollout-timeout", "30s"))
		says(t, r.end(t), "deploy", "deploy", step.ExitNotReady,
			"deploy: deployment.apps/page in namespace "+s.namespace+" is not ready after …s: container page of pod page-… exits with code 7, restarted … times; its last lines are above")
		r.reaches(t, "| the engine is on fire")
		// While it is waited for.
		r.reaches(t, "deployment.apps/page: container page of pod ")
		a.answers(t, "/", "the first page")

		// What went wrong is no obstacle to what comes next.
		mended := s.newApp(t, "page")
		mended.write(t, "index.html", "the mended page\n")
		mended.succeeds(t)
		mended.answers(t, "/", "the mended page")
	})
}
