package main

import (
	"bytes"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/step/steptest"
)

// world is everything around one build: a registry with base images, the
// workspaces and the volumes.
type world struct {
	host       string // of the registry
	blobs      atomic.Int32
	root       string
	env        map[string]string
	args       []string
	golang     string // digest for this platform
	distroless string
}

func newWorld(t *testing.T, login *authn.Basic) *world {
	t.Helper()
	w := &world{root: t.TempDir()}
	handler := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); login != nil && (user != login.Username || password != login.Password) {
			rw.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w.blobs.Add(1)
		}
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.host = strings.TrimPrefix(server.URL, "http://")
	w.golang = w.put(t, "library/golang:alpine", login)
	w.distroless = w.put(t, "distroless/static:latest", login)
	w.put(t, "corp/onbuild:latest", login, "WORKDIR /workspace", "COPY . .")
	for _, dir := range []string{"source", "cache", "prepared", "built", "secrets-for-run", "logins"} {
		w.mkdir(t, dir)
	}
	w.env = map[string]string{
		"WORKSPACE_SOURCE_PATH":                w.path("source"),
		"WORKSPACE_CACHE_PATH":                 w.path("cache"),
		"WORKSPACE_DOCKERCONFIG_PATH":          "",
		"WORKSPACE_NETRC_PATH":                 "",
		"WORKSPACE_GIT_CREDENTIALS_PATH":       "",
		"WORKSPACE_SECRETS_PATH":               "",
		"SECRETS_PATH":                         w.path("secrets-for-run"),
		"LOGINS_PATH":                          w.path("logins"),
		"WORKSPACE_SEALED_RESULTS_PATH":        "/tekton/results",
		"WORKSPACE_SEALED_ARTIFACTS_PATH":      "/tekton/artifacts",
		"PREPARED_PATH":                        w.path("prepared"),
		"BUILT_PATH":                           w.path("built"),
		"PARAM_IMAGE":                          w.host + "/team/app",
		"PARAM_ARTIFACT":                       "",
		"PARAM_CONTEXT":                        ".",
		"PARAM_DOCKERFILE":                     "Dockerfile",
		"PARAM_TARGET":                         "",
		"PARAM_GO_PROXY":                       "http://athens.athens.svc.cluster.local",
		"PARAM_GO_NO_SUM_DB":                   "",
		"PARAM_GO_PRIVATE":                     "",
		"PARAM_GO_PRIVATE_PROXY":               "",
		"PARAM_GO_FLAGS":                       "",
		"WORKSPACE_TOOLCHAINS_PATH":            w.path("cache", "toolchains"),
		"PARAM_TOOLCHAIN_CACHE":                "true",
		"PARAM_PUSH":                           "true",
		"PARAM_PUSH_RETRY":                     "1",
		"WORKSPACE_OUTPUT_PATH":                "",
		"PARAM_SKIP_UNCHANGED":                 "true",
		"PARAM_UNCHANGED_TTL":                  "336h",
		"PARAM_UNCHANGED_REPOSITORY":           "",
		"PARAM_OCI_LAYOUT_PATH":                "",
		"PARAM_TAR_PATH":                       "",
		"PARAM_KANIKO_IMAGE":                   "ghcr.io/osscontainertools/kaniko:v1.27.5",
		"PARAM_CACHE_SIZE":                     "10Gi",
		"PARAM_SKIP_DEFAULT_REGISTRY_FALLBACK": "true", // nothing may leave this machine
		"PARAM_IMAGE_DOWNLOAD_RETRY":           "1",
		"PARAM_LAYER_CACHE_REPO":               "",
		"PARAM_LAYER_CACHE_TTL":                "336h",
		"PARAM_CACHE_RUN_LAYERS":               "true",
		"PARAM_CACHE_COPY_LAYERS":              "false",
		"PARAM_REPRODUCIBLE":                   "true",
		"PARAM_SINGLE_SNAPSHOT":                "true",
		"PARAM_SKIP_UNUSED_STAGES":             "true",
		"PARAM_USE_NEW_RUN":                    "false",
		"PARAM_IGNORE_VAR_RUN":                 "true",
		"PARAM_SNAPSHOT_MODE":                  "full",
		"PARAM_COMPRESSION_LEVEL":              "1",
		"PARAM_KANIKO_VERBOSITY":               "info",
		"PARAM_FORCE":                          "false",
		"PARAM_LOG_TIMESTAMP":                  "false",
		"PARAM_IMAGE_FS_EXTRACT_RETRY":         "0",
		"HOME":                                 w.path("home"),
		"BE_PREPARE":                           "1",
	}
	w.args = []string{"--build-args", "--kaniko-args", "--registry-mirrors", w.host, "--registry-maps", "gcr.io=" + w.host,
		"--insecure-registries", "--skip-tls-verify-registries", "--tags", "--template-values", "--destinations", "--immutable-tags",
		"--labels", "--kaniko-env", "--ignore-paths", "--registry-certificates", "--registry-client-certs"}
	return w
}

// put stores an index of this platform and another, of images with these
// ONBUILD triggers, and returns this one's digest.
func (w *world) put(t *testing.T, repository string, login *authn.Basic, triggers ...string) string {
	t.Helper()
	var digest string
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"other", runtime.GOARCH} {
		img, err := random.Image(1000, 2)
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.Config(img, v1.Config{OnBuild: triggers}); err != nil {
			t.Fatal(err)
		}
		hash, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digest = hash.String()
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	tag, err := name.NewTag(w.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	auth := authn.Anonymous
	if login != nil {
		auth = login
	}
	if err := remote.WriteIndex(tag, index, remote.WithAuth(auth)); err != nil {
		t.Fatal(err)
	}
	return digest
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.root}, elements...)...)
}

func (w *world) mkdir(t *testing.T, elements ...string) {
	t.Helper()
	if err := os.MkdirAll(w.path(elements...), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (w *world) write(t *testing.T, file, content string) {
	t.Helper()
	w.mkdir(t, filepath.Dir(file))
	if err := os.WriteFile(w.path(file), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (w *world) read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(w.path(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func (w *world) command(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	return steptest.Command(t, w.args, w.env)
}

// run runs the program to its end, in an emptied "prepared" as each pod has it.
func (w *world) run(t *testing.T) (code int, stderr string) {
	t.Helper()
	if err := os.RemoveAll(w.path("prepared")); err != nil {
		t.Fatal(err)
	}
	w.mkdir(t, "prepared")
	return steptest.Run(t, w.args, w.env)
}

func (w *world) mustRun(t *testing.T) string {
	t.Helper()
	code, stderr := w.run(t)
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	return stderr
}

func (w *world) array(name string, values ...string) {
	w.args = steptest.Array(w.args, name, values...)
}

// still replaces what differs from run to run.
func (w *world) still(text string) string {
	text = strings.NewReplacer(
		w.golang, "sha256:GOLANG", w.distroless, "sha256:DISTROLESS",
		w.golang[:19], "sha256:GOLANG", w.distroless[:19], "sha256:DISTROLESS",
		w.root, "", w.host, "REGISTRY",
	).Replace(text)
	text = regexp.MustCompile(`"started": "[^"]*"`).ReplaceAllString(text, `"started": "TIME"`)
	text = regexp.MustCompile(`(?s)"baseLayers": \[.*?\]`).ReplaceAllString(text, `"baseLayers": ["sha256:LAYER"]`)
	text = regexp.MustCompile(`inputs: [0-9a-f]{12}`).ReplaceAllString(text, "inputs: DIGEST")
	text = regexp.MustCompile(`slipway-inputs-last-[0-9a-f]{16}`).ReplaceAllString(text, "slipway-inputs-last-IMAGE")
	text = regexp.MustCompile(`\.lease-[0-9]+`).ReplaceAllString(text, ".lease-N")
	text = regexp.MustCompile(`[0-9.]+[kMGT]?B\b`).ReplaceAllString(text, "SIZE")
	return regexp.MustCompile(`in [0-9.]+ s`).ReplaceAllString(text, "in TIME")
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: want (-), got (+):\n%s", path, diff)
	}
}

// inOrder sorts the lines about bases, which are fetched at the same time.
func inOrder(log string) string {
	lines := strings.SplitAfter(log, "\n")
	first := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "base ") })
	if first >= 0 {
		slices.Sort(lines[first : len(lines)-1])
	}
	return strings.Join(lines, "")
}

func readTestdata(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func (w *world) link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, w.path(path)); err != nil {
		t.Fatal(err)
	}
}
