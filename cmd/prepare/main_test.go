package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
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
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/step/steptest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The test binary is also the program under test.
func TestMain(m *testing.M) {
	if os.Getenv("BE_PREPARE") != "" {
		main()
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

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
	for _, dir := range []string{"source", "cache", "prepared", "built", "secrets-for-run"} {
		w.mkdir(t, dir)
	}
	w.env = map[string]string{
		"WORKSPACE_SOURCE_PATH":                w.path("source"),
		"WORKSPACE_CACHE_PATH":                 w.path("cache"),
		"WORKSPACE_DOCKERCONFIG_PATH":          "",
		"WORKSPACE_NETRC_PATH":                 "",
		"WORKSPACE_SECRETS_PATH":               "",
		"SECRETS_PATH":                         w.path("secrets-for-run"),
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

// The seed's Dockerfiles as they are, /workspace included.
func TestSeed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"baseline", "final"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.write(t, "source/Dockerfile", readTestdata(t, name+".Dockerfile"))
			w.write(t, "source/Dockerfile.dockerignore", "*.md\n")
			w.write(t, "source/conf.yaml", "")
			log := w.mustRun(t)
			golden(t, name+".plan.json", w.still(w.read(t, "prepared/plan.json")))
			golden(t, name+".derived.Dockerfile", w.still(w.read(t, "prepared/Dockerfile")))
			golden(t, name+".log", w.still(inOrder(log)))
			if got := w.read(t, "prepared/Dockerfile.dockerignore"); got != "*.md\n" {
				t.Errorf("the Dockerfile's own .dockerignore became %q", got)
			}
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.Stat(program)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.Stat(w.path("prepared/bin/prepare")); err != nil || got.Size() != want.Size() || got.Mode().Perm() != 0o755 {
				t.Errorf("the program for the build step: %v, %v", got, err)
			}
			for _, digest := range []string{w.golang, w.distroless} {
				if _, err := os.Stat(w.path("prepared/bases", digest, "index.json")); err != nil {
					t.Error(err)
				}
			}
		})
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

func TestBasesAreDownloadedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	if log := w.mustRun(t); !strings.Contains(log, "base golang:alpine is "+w.golang[:19]+": downloading ") {
		t.Errorf("the first time:\n%s", log)
	}
	first := w.blobs.Load()
	if first == 0 {
		t.Fatal("no blob was downloaded")
	}
	if log := w.mustRun(t); !strings.Contains(log, "base golang:alpine is "+w.golang[:19]+": cached, ") {
		t.Errorf("the second time:\n%s", log)
	}
	if again := w.blobs.Load(); again != first {
		t.Errorf("%d blobs the first time, %d more the second", first, again-first)
	}

	// By digest, the registry is not asked at all.
	w.write(t, "source/Dockerfile", "FROM golang:alpine@"+w.golang+"\n")
	w.args = []string{"--registry-mirrors", "127.0.0.1:1"}
	if log := w.mustRun(t); !strings.Contains(log, ": cached, ") {
		t.Errorf("by digest:\n%s", log)
	}
}

func TestADamagedBaseIsFetchedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	w.mustRun(t)
	blobs, err := filepath.Glob(w.path("cache/bases", w.golang, "blobs/sha256/*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("%q, %v", blobs, err)
	}
	for _, blob := range blobs {
		if err := os.Truncate(blob, 3); err != nil {
			t.Fatal(err)
		}
	}
	log := w.mustRun(t)
	if !strings.Contains(log, "base golang:alpine: what the cache has is not used: damaged: ") || !strings.Contains(log, ": downloading ") {
		t.Errorf("got\n%s", log)
	}
	if log := w.mustRun(t); !strings.Contains(log, ": cached, ") {
		t.Errorf("after that:\n%s", log)
	}
}

func TestACacheProblemNeverFailsABuild(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		breakIt func(t *testing.T, w *world)
		want    string
	}{
		"none bound": {func(_ *testing.T, w *world) { w.env["WORKSPACE_CACHE_PATH"] = "" }, "caches: no workspace cache is bound, so this build starts with none"},
		"gone":       {func(_ *testing.T, w *world) { w.env["WORKSPACE_CACHE_PATH"] = w.path("absent") }, "cache go-mod is not used by this build: "},
		"read-only":  {func(_ *testing.T, w *world) { w.env["WORKSPACE_CACHE_PATH"] = "/proc/self" }, "cache bases is not used by this build: "},
		"a foreign file as a base": {func(t *testing.T, w *world) { w.write(t, "cache/bases/"+w.golang, "") },
			"base golang:alpine: what the cache has is not used: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
			tc.breakIt(t, w)
			if log := w.mustRun(t); !strings.Contains(log, tc.want) {
				t.Errorf("got\n%s\nwant %s", log, tc.want)
			}
			if _, err := os.Stat(w.path("prepared/bases", w.golang, "index.json")); err != nil {
				t.Error(err)
			}
			var plan struct {
				Links []struct{ Target string }
			}
			if err := json.Unmarshal([]byte(w.read(t, "prepared/plan.json")), &plan); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(plan.Links[0].Target); err != nil || !info.IsDir() {
				t.Errorf("there is no module cache: %v", err)
			}
		})
	}
}

func TestCredentialsReachTheRegistryAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &authn.Basic{Username: "robot", Password: "secret-word"})
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	code, stderr := w.run(t)
	want := fmt.Sprintf("prepare: Dockerfile:1: base image golang:alpine: registry %s refused to pull library/golang (401, Unauthorized): bind the workspace dockerconfig to a registry secret with the right to pull there\n", w.host)
	if code != step.ExitBadInput || !strings.HasSuffix(stderr, want) {
		t.Errorf("without credentials: exit code %d\n%s\nwant %s", code, stderr, want)
	}

	w.env["WORKSPACE_DOCKERCONFIG_PATH"] = w.path("dockerconfig")
	w.write(t, "dockerconfig/config.json", fmt.Sprintf(`{"auths":{%q:{"username":"robot","password":"secret-word"}}}`, w.host))
	log := w.mustRun(t)
	if strings.Contains(log, "secret-word") {
		t.Error("the log has the password")
	}
	err := filepath.WalkDir(w.root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == w.path("dockerconfig/config.json") || path == w.path("prepared/bin/prepare") {
			return err
		}
		if content, err := os.ReadFile(path); err != nil || bytes.Contains(content, []byte("secret-word")) {
			t.Errorf("%s has the password (%v)", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

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
			"Dockerfile:1: kaniko would drop what the base image's ONBUILD COPY puts into /workspace: /workspace is a mount of the build pod; copy to another directory, such as /app",
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
		"a netrc without a login": {
			func(t *testing.T, w *world) {
				w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
				w.write(t, "netrc/.netrc", "robot hunter2")
				w.env["PARAM_GO_PRIVATE"], w.env["WORKSPACE_NETRC_PATH"] = "corp.example", w.path("netrc")
			},
			"workspace netrc: no line reads: machine HOST login NAME password PASSWORD",
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

func (w *world) link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, w.path(path)); err != nil {
		t.Fatal(err)
	}
}

func TestSIGTERMEndsADownload(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(reached)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	w.args = []string{"--registry-mirrors", strings.TrimPrefix(silent.URL, "http://")}
	cmd, stderr := w.command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	started := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if took := time.Since(started); took > 2*time.Second || cmd.ProcessState.ExitCode() != step.ExitFailed {
		t.Errorf("it took %v, exit code %d\n%s", took, cmd.ProcessState.ExitCode(), stderr)
	}
}
