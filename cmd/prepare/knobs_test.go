package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// What skaffold.yaml has for kaniko reaches kaniko.
func TestKnobsReachKaniko(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/services/api/Dockerfile", "FROM golang:alpine\nARG FROM_ENV\n")
	w.env["PARAM_CONTEXT"] = "services/api" // skaffold's context and contextSubPath
	w.env["PARAM_FORCE"], w.env["PARAM_LOG_TIMESTAMP"], w.env["PARAM_IMAGE_FS_EXTRACT_RETRY"] = "true", "true", "2"
	w.array("--labels", "team=harbour", "image={{.IMAGE_NAME}}")
	w.array("--kaniko-env", "TMPDIR=/tmp", "CHANNEL=edge-{{.IMAGE_TAG}}")
	w.array("--ignore-paths", "/var/cache")
	w.array("--build-args", "FROM_ENV={{.CHANNEL}}")
	w.mustRun(t)
	p, err := plan.Read(w.path("prepared"))
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(p.Args, "\n") + "\n"
	for _, want := range []string{
		"--context=dir://" + w.path("source/services/api"), "--force", "--log-timestamp=true", "--image-fs-extract-retry=2",
		"--ignore-path=/var/cache", "--build-arg=FROM_ENV=edge-latest",
	} {
		if !strings.Contains(args, want+"\n") {
			t.Errorf("no %s in\n%s", want, args)
		}
	}
	if want := `"Labels":{"image":"app","team":"harbour"}`; !strings.Contains(compact(t, p.ImageConfig), want) {
		t.Errorf("no %s in %s", want, p.ImageConfig)
	}
	if p.Env["TMPDIR"] != "/tmp" || p.Env["CHANNEL"] != "edge-latest" || p.Env["FF_KANIKO_OCI_WARMER"] != "true" {
		t.Errorf("environment %v", p.Env)
	}
}

// compact is JSON without the plan's indents.
func compact(t *testing.T, content []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, content); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestBadKnobs(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		set  func(w *world)
		want string
	}{
		"a label without a value": {func(w *world) { w.array("--labels", "team") }, `param labels: "team" is not KEY=VALUE`},
		"a label of nothing":      {func(w *world) { w.array("--labels", "x={{.TEAM}}") }, "param labels: x: there is no variable TEAM; there are "},
		"kaniko's folder":         {func(w *world) { w.array("--kaniko-env", "KANIKO_DIR=/x") }, "param kaniko-env: KANIKO_DIR is the task's own to set; remove it"},
		"a feature of kaniko's":   {func(w *world) { w.array("--kaniko-env", "FF_KANIKO_OCI_WARMER=false") }, "param kaniko-env: FF_KANIKO_OCI_WARMER is the task's own to set; remove it"},
		"a password for kaniko":   {func(w *world) { w.array("--kaniko-env", "HTTPS_PROXY=http://robot:hunter2@proxy.example") }, "param kaniko-env: HTTPS_PROXY has a URL with a password: every RUN could read it, and it would stay in the run's params"},
		"a password that a template makes": {func(w *world) {
			w.array("--template-values", "LOGIN=robot:hunter2")
			w.array("--kaniko-env", "HTTPS_PROXY=http://{{.LOGIN}}@proxy.example")
		}, "param kaniko-env: HTTPS_PROXY has a URL with a password: every RUN could read it, and it would stay in the run's params"},
		"a label with a password": {func(w *world) {
			w.array("--template-values", "LOGIN=robot:hunter2")
			w.array("--labels", "from=https://{{.LOGIN}}@git.example/app")
		}, "param labels: from has a URL with a password: whoever has the image could read it, and it would stay in the run's params"},
		"records in no repository":      {func(w *world) { w.env["PARAM_UNCHANGED_REPOSITORY"] = "RECORDS" }, "param unchanged-repository: "},
		"a relative path":               {func(w *world) { w.array("--ignore-paths", "var/cache") }, `param ignore-paths: "var/cache" is no absolute path`},
		"retries":                       {func(w *world) { w.env["PARAM_IMAGE_DOWNLOAD_RETRY"] = "-1" }, "param image-download-retry: -1 is no number from 0 to 8"},
		"kaniko's retries":              {func(w *world) { w.env["PARAM_IMAGE_FS_EXTRACT_RETRY"] = "9" }, "param image-fs-extract-retry: 9 is no number from 0 to 8"},
		"layers of single instructions": {func(w *world) { w.env["PARAM_LAYER_CACHE_REPO"] = "registry.example/cache" }, `param layer-cache-repo: single instructions have layers only with the param single-snapshot "false"`},
		"a layer cache with a tag": {func(w *world) {
			w.env["PARAM_LAYER_CACHE_REPO"], w.env["PARAM_SINGLE_SNAPSHOT"] = "registry.example/Cache", "false"
		}, "param layer-cache-repo: "},
		"no certificates": {func(w *world) { w.array("--registry-certificates", "registry.example=ca.crt") }, `param registry-certificates: "registry.example=ca.crt": the workspace certificates, which has the file, is not bound`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
			tc.set(w)
			code, stderr := w.run(t)
			if last := lastLine(stderr); code != step.ExitBadInput || !strings.HasPrefix(last, "prepare: "+tc.want) {
				t.Errorf("exit code %d\ngot  %s\nwant prepare: %s", code, last, tc.want)
			}
		})
	}
}

// A download that breaks off is begun again.
func TestABrokenDownloadIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	var broken atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		request := r.Clone(r.Context())
		request.RequestURI, request.URL.Scheme, request.URL.Host = "", "http", w.host
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		for name, values := range answer.Header {
			rw.Header()[name] = values
		}
		rw.WriteHeader(answer.StatusCode)
		layer := strings.Contains(r.URL.Path, "/blobs/") && answer.ContentLength > 900 // not a configuration
		if layer && broken.CompareAndSwap(false, true) {
			_, _ = io.CopyN(rw, answer.Body, 1)
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.Copy(rw, answer.Body)
	}))
	t.Cleanup(proxy.Close)
	w.args = replaced(w.args, w.host, strings.TrimPrefix(proxy.URL, "http://"))
	if log := w.mustRun(t); !broken.Load() || !strings.Contains(log, "; again in 1s\n") {
		t.Errorf("log:\n%s", log)
	}
}

func replaced(args []string, from, to string) []string {
	var out []string
	for _, arg := range args {
		out = append(out, strings.ReplaceAll(arg, from, to))
	}
	return out
}

// Requests go by way of the proxy, but for those that need none.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Host != "registry.example:5000" {
			t.Errorf("asked for %s", r.URL)
		}
		request := r.Clone(r.Context())
		request.RequestURI, request.URL.Host = "", w.host
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		for name, values := range answer.Header {
			rw.Header()[name] = values
		}
		rw.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(rw, answer.Body)
	}))
	t.Cleanup(proxy.Close)
	w.env["HTTP_PROXY"] = proxy.URL
	w.args = replaced(w.args, w.host, "registry.example:5000")
	w.array("--insecure-registries", "registry.example:5000")
	w.mustRun(t)
	if asked.Load() == 0 {
		t.Error("nobody asked the proxy")
	}

	before := asked.Load()
	w.env["NO_PROXY"] = "registry.example"
	w.env["PARAM_IMAGE_DOWNLOAD_RETRY"] = "0"
	if code, stderr := w.run(t); code != step.ExitFailed || asked.Load() != before || !strings.Contains(stderr, "registry.example") {
		t.Errorf("without the proxy: exit code %d, asked %d times\n%s", code, asked.Load()-before, stderr)
	}
}

// A layer cache that cannot be read slows a build down.
func TestALayerCacheThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	w.env["PARAM_SINGLE_SNAPSHOT"] = "false"
	w.env["PARAM_LAYER_CACHE_REPO"] = w.host + "/cache"
	if log := w.mustRun(t); !strings.Contains(log, "layer cache: 0 layers, 0B in ") || strings.Contains(log, "not all of it") {
		t.Errorf("an empty one:\n%s", log)
	}
	refusing := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(refusing.Close)
	w.env["PARAM_LAYER_CACHE_REPO"] = strings.TrimPrefix(refusing.URL, "http://") + "/cache"
	if log := w.mustRun(t); !strings.Contains(log, "layer cache: not all of it is used by this build: registry ") {
		t.Errorf("one that refuses:\n%s", log)
	}
	p, err := plan.Read(w.path("prepared"))
	if err != nil {
		t.Fatal(err)
	}
	if args := strings.Join(p.Args, " "); p.Layers == nil || !strings.Contains(args, "--cache-repo=oci:"+w.path("built/layers/layer")) {
		t.Errorf("%+v, %s", p.Layers, args)
	}
}
