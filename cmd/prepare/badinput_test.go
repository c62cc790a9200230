package main

import (
	"os"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/step"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  func(t *testing.T, w *world)
		want string // the last line
	}{
		"no source": {
			func(_ *testing.T, w *world) { w.env["WORKSPACE_SOURCE_PATH"] = "/absent" },
			"workspace source: open /absent: no such file or directory",
		},
		"nothing would be left of the build": {
			func(_ *testing.T, w *world) { w.env["PARAM_PUSH"] = "false" },
			`param push: with "false" nothing is left of the build; set the param oci-layout-path or tar-path too`,
		},
		"an output without its workspace": {
			func(_ *testing.T, w *world) { w.env["PARAM_TAR_PATH"] = "app.tar" },
			"param tar-path: the workspace output, where the image would go, is not bound",
		},
		"too many retries": {
			func(_ *testing.T, w *world) { w.env["PARAM_PUSH_RETRY"] = "9" },
			"param push-retry: 9 is no number from 0 to 8",
		},
		"no context": {
			func(_ *testing.T, w *world) { w.env["PARAM_CONTEXT"] = "app" },
			"no build context: the source workspace has no folder app; set the param context",
		},
		"a context that is a file": {
			func(t *testing.T, w *world) { w.write(t, "source/app", ""); w.env["PARAM_CONTEXT"] = "app" },
			"param context: app is not a folder of the source workspace",
		},
		"a context outside": {
			func(_ *testing.T, w *world) { w.env["PARAM_CONTEXT"] = "../cache" },
			"param context: ../cache: path escapes from parent; it must name a folder inside the source workspace",
		},
		"a context that links outside": {
			func(t *testing.T, w *world) { w.link(t, w.path("cache"), "source/app"); w.env["PARAM_CONTEXT"] = "app" },
			"param context: app: path escapes from parent; it must name a folder inside the source workspace",
		},
		"no Dockerfile": {
			func(*testing.T, *world) {},
			"no Dockerfile: the source workspace has no file Dockerfile; set the params context and dockerfile",
		},
		"no Dockerfile in the context": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM scratch")
				w.mkdir(t, "source/app")
				w.env["PARAM_CONTEXT"] = "app"
			},
			"no Dockerfile: the source workspace has no file app/Dockerfile; set the params context and dockerfile",
		},
		"a Dockerfile that links outside": {
			func(t *testing.T, w *world) {
				w.write(t, "cache/secret", "FROM scratch")
				w.link(t, "../cache/secret", "source/Dockerfile")
			},
			"param dockerfile: Dockerfile: path escapes from parent; it must name a file inside the source workspace",
		},
		"a Dockerfile that is a folder": {
			func(t *testing.T, w *world) { w.mkdir(t, "source/Dockerfile") },
			"param dockerfile: Dockerfile: not a regular file; it must name a file inside the source workspace",
		},
		"a URL": {
			func(_ *testing.T, w *world) { w.env["PARAM_DOCKERFILE"] = "https://example.com/Dockerfile" },
			"param dockerfile: https://example.com/Dockerfile is not a file in the source workspace; URLs are not read",
		},
		"a Dockerfile that does not parse": {
			func(t *testing.T, w *world) { w.write(t, "source/Dockerfile", "FROM golang:alpine\nRUNS go build\n") },
			"Dockerfile:2: unknown instruction: RUNS (did you mean RUN?)",
		},
		"no such base image": {
			func(t *testing.T, w *world) { w.write(t, "source/Dockerfile", "FROM golang:absent\n") },
			"Dockerfile:1: base image golang:absent: registry REGISTRY has no library/golang:absent (404, MANIFEST_UNKNOWN: Unknown manifest)",
		},
		"a build arg without a value": {
			func(_ *testing.T, w *world) { w.array("--build-args", "TOKEN") },
			`param build-args: "TOKEN" is not KEY=VALUE`,
		},
		"an argument of kaniko's that is not the user's": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
				w.array("--kaniko-args", "--destination=elsewhere")
			},
			"param kaniko-args: --destination is decided by the task's own params; remove it",
		},
		"unused stages": {
			func(_ *testing.T, w *world) { w.env["PARAM_SKIP_UNUSED_STAGES"] = "false" },
			`param skip-unused-stages: "false" is not possible: kaniko has skipped unused stages since v1.26; name the stage to build in the param target`,
		},
		"a map that does not parse": {
			func(_ *testing.T, w *world) { w.array("--registry-maps", "gcr.io") },
			`param registry-maps: "gcr.io" is not REGISTRY=HOST[/PREFIX]`,
		},
		"a secret that does not parse": {
			func(t *testing.T, w *world) {
				w.write(t, "dockerconfig/config.json", "x")
				w.env["WORKSPACE_DOCKERCONFIG_PATH"] = w.path("dockerconfig")
			},
			`workspace dockerconfig: config.json: not a Docker configuration: it must be JSON like {"auths":{"registry.example":{"auth":"…"}}}`,
		},
		"a COPY of nothing": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\nCOPY go.mod go.sum ./\n")
				w.write(t, "source/go.mod", "")
			},
			"Dockerfile:2: COPY go.sum: the build context has no such file or folder; add it, or set the param context to the folder that has it",
		},
		"a COPY of what is left out": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\nCOPY etc/conf.yaml /etc/\n")
				w.write(t, "source/.dockerignore", "# No configuration.\n*.md\n**/etc\n")
				w.write(t, "source/etc/conf.yaml", "")
			},
			"Dockerfile:2: COPY etc/conf.yaml: .dockerignore:3 leaves it out of the build context; add a line !etc/conf.yaml at its end",
		},
		"a COPY that links outside": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\nCOPY conf.yaml /etc/\n")
				w.write(t, "cache/secret", "")
				w.link(t, "../cache/secret", "source/conf.yaml")
			},
			"Dockerfile:2: COPY conf.yaml: it is a symbolic link to what is not in the build context; put the file itself there",
		},
		"a COPY by way of a link outside": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\nCOPY etc/secret /etc/\n")
				w.write(t, "cache/secret", "")
				w.link(t, w.path("cache"), "source/etc")
			},
			"Dockerfile:2: COPY etc/secret: path escapes from parent; a symbolic link on the way leads out of the build context: put the files themselves there",
		},
		"a .dockerignore that kaniko would pass over": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
				w.write(t, "source/.dockerignore", "*.md\n!\n")
			},
			`.dockerignore:2: pattern "!": illegal exclusion pattern: "!"; see https://docs.docker.com/build/concepts/context/#dockerignore-files`,
		},
		"a .dockerignore that links outside": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
				w.link(t, "/etc/hostname", "source/.dockerignore")
			},
			".dockerignore: path escapes from parent; it must be a file inside the source workspace",
		},
		"a base image that copies to a mount": {
			func(t *testing.T, w *world) { w.write(t, "source/Dockerfile", "FROM corp/onbuild\n") },
			"Dockerfile:1: what the base image's ONBUILD COPY puts into /workspace would not be in the image: /workspace is a mount of the build pod; copy to another directory, such as /app",
		},
		"a secret as a build arg": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\nARG GITHUB_TOKEN\n")
				w.array("--build-args", "GITHUB_TOKEN=c0ffee12")
			},
			"Dockerfile:2: build arg GITHUB_TOKEN is a secret by its name; every RUN could read it, and it would stay in the run's params; put it into a secret for the workspace secrets and use RUN --mount=type=secret,id=github_token; for modules there are the params go-private and go-private-proxy",
		},
		"a secret that is not there": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\nRUN --mount=type=secret,id=npmrc,required npm ci\n")
			},
			"Dockerfile:2: RUN cannot do without the secret npmrc, which is not there; bind the workspace secrets to a secret with the key npmrc",
		},
		"a proxy with a password": {
			func(_ *testing.T, w *world) { w.env["PARAM_GO_PROXY"] = "https://robot:hunter2@goproxy.example,direct" },
			"param go-proxy has a URL with a password: every RUN could read it, and it would stay in the run's params; the workspace netrc is the place for logins, and the params go-private and go-private-proxy say for what",
		},
		"git credentials without a login": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM scratch\n")
				w.write(t, "git-credentials/token", "hunter2")
				w.env["PARAM_GO_PRIVATE"], w.env["WORKSPACE_GIT_CREDENTIALS_PATH"] = "corp.example", w.path("git-credentials")
				w.env["PARAM_GO_PRIVATE_PROXY"] = "direct" // where it may be a proxy that has them, it is told and no more
			},
			"workspace git-credentials has no .git-credentials: its secret needs a key of that name, with lines such as https://USER:TOKEN@git.example.com",
		},
		"a netrc without a login": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
				w.write(t, "netrc/.netrc", "robot hunter2")
				w.env["PARAM_GO_PRIVATE"], w.env["WORKSPACE_NETRC_PATH"] = "corp.example", w.path("netrc")
			},
			"workspace netrc: no line reads: machine HOST login NAME password PASSWORD",
		},
		"an image by digest": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM scratch\n")
				w.env["PARAM_IMAGE"] = "registry.example/team/app@sha256:" + strings.Repeat("0", 64)
			},
			"param image: registry.example/team/app@sha256:" + strings.Repeat("0", 64) + " has a digest, which only the build decides; give a repository with or without a tag",
		},
		"a setting of two lines": {
			func(_ *testing.T, w *world) { w.env["PARAM_GO_PROXY"] = "a\nGOFLAGS=x" },
			"param go-proxy has more than one line",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			tc.set(t, w)
			code, stderr := w.run(t)
			lines := strings.Split(strings.TrimSuffix(w.still(stderr), "\n"), "\n")
			if last := lines[len(lines)-1]; code != step.ExitBadInput || last != "prepare: "+tc.want {
				t.Errorf("exit code %d\ngot  %s\nwant prepare: %s", code, last, tc.want)
			}
			if _, err := os.Stat(w.path("prepared/plan.json")); err == nil {
				t.Error("there is a plan")
			}
		})
	}
}
