package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	containers "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/slipway-ci/slipway/test/flow"
)

// notHere are the Dockerfiles of testdata/wild that need what this machine
// cannot give a build. What they are derived to is tested in
// internal/dockerfile.
var notHere = map[string]string{
	"air-development":  "go install of a module that the cluster's proxy has not",
	"cross-compile-xx": "clang, and the scripts of tonistiigi/xx",
	"delve-debugger":   "go install of a module that the cluster's proxy has not",
	"grpc-protoc":      "a download from the internet",
}

// refused are those that are refused before kaniko starts, with what is said.
var refused = map[string]string{
	"private-modules-token": "private-modules-token.Dockerfile:3: build arg GITHUB_TOKEN: its value has a GitHub token",
}

// Dockerfiles of the makes that people write are built as they are.
func TestWild(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bases := s.pushWildBases(t)
	s.secret(t, "secrets", "", map[string]string{"netrc": "machine corp.example login robot password anchor\n"})
	app := s.appFrom(t, flow.App{Name: "wild"}, filepath.Join("testdata", "wild-app"))
	folders, err := os.ReadDir(filepath.Join("testdata", "wild"))
	if err != nil {
		t.Fatal(err)
	}
	contexts := map[string]string{"go-work": "workspace", "vendored": "vendored"}
	for _, folder := range folders {
		content, err := os.ReadFile(filepath.Join("testdata", "wild", folder.Name(), "Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}
		app.write(t, filepath.Join(contexts[folder.Name()], folder.Name()+".Dockerfile"), string(content))
	}
	source, output := s.claim("source", "wild"), s.claim("output", "wild")
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", app.URL()), stringParam("revision", app.push(t))},
		Workspaces: []v1.WorkspaceBinding{output},
	})
	build := func(t *testing.T, name string) *v1.TaskRun {
		var options struct {
			Target    string            `json:"target"`
			BuildArgs map[string]string `json:"buildArgs"`
		}
		text, err := os.ReadFile(filepath.Join("testdata", "wild", name, "options.json"))
		if err == nil {
			err = json.Unmarshal(text, &options)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		args := []string{}
		for key, value := range options.BuildArgs {
			args = append(args, key+"="+value)
		}
		return s.tryTask(t, "slipway-build", v1.TaskRunSpec{
			Params: v1.Params{
				stringParam("image", s.Images+"wild:"+name),
				stringParam("context", "./"+contexts[name]),
				stringParam("dockerfile", name+".Dockerfile"),
				stringParam("target", options.Target),
				stringParam("go-proxy", s.GoProxy),
				stringParam("skip-unchanged", "false"),
				{Name: "build-args", Value: flow.Array(args...)},
				{Name: "registry-maps", Value: flow.Array(append(s.RegistryMaps, "mirror.corp.example="+s.Registry)...)},
				{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)},
			},
			Workspaces: []v1.WorkspaceBinding{source, s.claim("cache", "cache"), s.claim("toolchains", "cache/toolchains"), fromSecret("secrets", "secrets")},
		})
	}
	// The module that all need is in the cache when others ask proxies of
	// their own for it.
	if run := build(t, "kubebuilder-operator"); !run.IsSuccessful() {
		t.Fatal(s.taskLog(t, run))
	}
	for _, folder := range folders {
		name := folder.Name()
		if notHere[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := build(t, name)
			log := s.taskLog(t, run)
			switch want := refused[name]; {
			case want == "" && !run.IsSuccessful():
				t.Error(log)
			case want != "" && (run.IsSuccessful() || !strings.Contains(log, want)):
				t.Errorf("want it refused with %q\n%s", want, log)
			}
			for _, result := range run.Status.Results {
				switch result.Name {
				case "build-report":
					t.Log(result.Value.StringVal)
				case "IMAGE_DIGEST":
					holds(t, s.pull(t, "wild", result.Value.StringVal), bases, filepath.Join("testdata", "wild", name, "files.txt"))
				}
			}
		})
	}
}

var update = flag.Bool("update", false, "write what images hold to their files.txt")

// holds compares what an image has on top of its base with a list.
func holds(t *testing.T, img containers.Image, bases map[containers.Hash]bool, list string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layers = slices.DeleteFunc(layers, func(layer containers.Layer) bool {
		digest, err := layer.Digest()
		return err != nil || bases[digest]
	})
	files := slices.DeleteFunc(filesOf(t, layers, func(string, io.Reader) {}), func(file string) bool {
		return strings.Contains(file, "/.git/") || strings.HasSuffix(file, ".Dockerfile") // of the clone, and other tests'
	})
	got := strings.Join(files, "\n") + "\n"
	if *update {
		if err := os.WriteFile(list, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("on top of its base the image has\n%s\nwant\n%s\n(-update writes %s)", got, want, list)
	}
}

// pushWildBases gives the registry the base images under the names that the
// Dockerfiles have for them: all are the local cluster's stand-ins, with
// stand-ins for package managers. It returns the digests of their layers.
func (s *site) pushWildBases(t *testing.T) map[containers.Hash]bool {
	t.Helper()
	bases := map[containers.Hash]bool{}
	manager := packageManager(s.servePackages(t))
	tools := map[string]string{"sbin/apk": manager, "usr/bin/apt-get": manager, "usr/sbin/adduser": addUser}
	golang := with(t, s.pullTag(t, "library/golang", "alpine"), tools)
	alpine := with(t, s.pullTag(t, "library/alpine", "latest"), tools)
	node := with(t, alpine, map[string]string{"usr/local/bin/npm": "#!/bin/sh\nmkdir -p dist\n", "usr/local/bin/node": "#!/bin/sh\n"})
	distroless := s.pullTag(t, "distroless/static", "latest")
	busybox := s.pullTag(t, "library/busybox", "latest")
	for tag, img := range map[string]containers.Image{
		"library/golang:1.26-alpine": golang, "library/golang:1.26-alpine3.20": golang, "library/golang:1.26": golang,
		"library/golang:1.26-bookworm": golang, "library/golang:latest": golang, "base/golang:1.26": golang,
		"library/alpine:3": alpine, "library/alpine:3.20": alpine, "library/debian:bookworm-slim": alpine,
		"library/node:22-alpine": node, "library/busybox:musl": busybox, "base/run:latest": busybox,
		"distroless/static:nonroot": distroless, "distroless/static-debian12:nonroot": distroless,
		"distroless/base:latest": distroless, "distroless/base-debian12:latest": distroless,
		"corp/golang-user:1": configured(t, golang, containers.Config{WorkingDir: "/go", User: "1001"}),
		"corp/golang:1":      configured(t, golang, containers.Config{WorkingDir: "/workspace"}),
		"corp/golang-onbuild:1": configured(t, golang, containers.Config{
			WorkingDir: "/src", OnBuild: []string{"COPY . .", "RUN go build -o /out/app ./cmd/server"},
		}),
	} {
		repository, tag, _ := strings.Cut(tag, ":")
		s.push(t, repository, tag, img)
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range manifest.Layers {
			bases[layer.Digest] = true
		}
	}
	return bases
}

// configured is an image with another WORKDIR, USER and ONBUILD.
func configured(t *testing.T, img containers.Image, more containers.Config) containers.Image {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.DeepCopy().Config
	config.WorkingDir, config.User, config.OnBuild = more.WorkingDir, more.User, more.OnBuild
	if img, err = mutate.Config(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}
