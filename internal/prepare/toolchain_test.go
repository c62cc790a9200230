package prepare_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/prepare"
)

// site is a registry and the volumes of a run.
type site struct {
	root, registry string
	env            map[string]string
	host           prepare.Host
	ignored        []string            // the param ignore-paths
	asked          func(*http.Request) // each request to the registry; may be nil
}

func newSite(t *testing.T) *site {
	t.Helper()
	images := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	s := &site{root: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.asked != nil {
			s.asked(r)
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.registry = strings.TrimPrefix(server.URL, "http://")
	s.host = prepare.Host{Executable: "/proc/self/exe", Platform: "linux/amd64", ReadOnly: []string{s.path("cache/toolchains")}}
	for _, dir := range []string{"source", "cache", "built"} {
		if err := os.Mkdir(s.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.env = map[string]string{
		"WORKSPACE_SOURCE_PATH": s.path("source"), "WORKSPACE_CACHE_PATH": s.path("cache"), "WORKSPACE_TOOLCHAINS_PATH": s.path("cache/toolchains"),
		"PREPARED_PATH": s.path("prepared"), "BUILT_PATH": s.path("built"),
		"SECRETS_PATH": t.TempDir(), "LOGINS_PATH": t.TempDir(),
		"PARAM_IMAGE": "registry.example/app", "PARAM_LAYER_CACHE_TTL": "1h", "PARAM_CACHE_RUN_LAYERS": "true", "PARAM_CACHE_COPY_LAYERS": "false", "PARAM_IMAGE_DOWNLOAD_RETRY": "0", "PARAM_IMAGE_FS_EXTRACT_RETRY": "0", "PARAM_FORCE": "false", "PARAM_LOG_TIMESTAMP": "false",
		"PARAM_CONTEXT": ".", "PARAM_DOCKERFILE": "Dockerfile", "PARAM_GO_PROXY": "http://proxy.example", "PARAM_TOOLCHAIN_CACHE": "true",
		"PARAM_PUSH": "true", "PARAM_PUSH_RETRY": "1", "PARAM_SKIP_UNCHANGED": "false", "PARAM_KANIKO_IMAGE": "kaniko",
		"PARAM_SKIP_DEFAULT_REGISTRY_FALLBACK": "true", "PARAM_REPRODUCIBLE": "true", "PARAM_SINGLE_SNAPSHOT": "true",
		"PARAM_SKIP_UNUSED_STAGES": "true", "PARAM_USE_NEW_RUN": "false", "PARAM_IGNORE_VAR_RUN": "true",
	}
	const settings = "GOPROXY=https://default.example\nGOTOOLCHAIN=local\n"
	s.put(t, "golang:1", map[string]string{"etc/passwd": "", "usr/local/go/bin/go": "one", "usr/local/go/go.env": settings})
	s.put(t, "golang:2", map[string]string{"usr/local/go/bin/go": "two", "usr/local/go/go.env": settings})
	s.put(t, "golang:other", map[string]string{"usr/local/go/bin/go": "three", "usr/local/go/go.env": "GOTOOLCHAIN=auto\n"})
	s.put(t, "alpine:latest", map[string]string{"etc/passwd": "", "usr/local/bin/x": ""})
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.root, name) }

func (s *site) put(t *testing.T, image string, files map[string]string) {
	t.Helper()
	s.putAs(t, image, "", files)
}

// putAs stores an image with a user of its own.
func (s *site) putAs(t *testing.T, image, user string, files map[string]string) {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for name, text := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{User: user}, RootFS: mustConfig(t, img).RootFS}); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(s.registry + "/library/" + image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
}

func mustConfig(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// run prepares a build of the Dockerfile, in an emptied "prepared" as each pod
// has it.
func (s *site) run(t *testing.T, dockerfile string) (p *plan.Plan, log string) {
	t.Helper()
	if err := os.WriteFile(s.path("source/Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.path("prepared")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path("prepared"), 0o755); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	args := []string{"--build-args", "--kaniko-args", "--registry-mirrors", s.registry, "--registry-maps", "--insecure-registries", "--skip-tls-verify-registries", "--ignore-paths"}
	args = append(args, s.ignored...)
	if err := prepare.Run(t.Context(), s.host, args, envconfig.MapLookuper(s.env), &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	p, err := plan.Read(s.path("prepared"))
	if err != nil {
		t.Fatal(err)
	}
	return p, stderr.String()
}

// carrier is the file that has the settings.
func carrier(t *testing.T, p *plan.Plan) plan.File {
	t.Helper()
	i := slices.IndexFunc(p.Files, func(f plan.File) bool { return strings.Contains(f.Content, "GOCACHE=") })
	if i < 0 {
		t.Fatalf("no file has the settings: %+v", p.Files)
	}
	return p.Files[i]
}

const build = "FROM golang:1 AS build\nCOPY . .\nRUN go build -o /app\nFROM alpine\nCOPY --from=build /app /app\n"

func TestGoComesFromTheVolume(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, log := s.run(t, build)
	for _, want := range []string{": downloading ", "toolchain of golang:1: kept for later builds in ", "toolchain: Go of golang:1 comes from the cache\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("the first time: %q is not in\n%s", want, log)
		}
	}
	if err := os.RemoveAll(s.path("cache/bases")); err != nil {
		t.Fatal(err)
	}
	p, log := s.run(t, build)
	if strings.Contains(log, "golang:1: download") || strings.Contains(log, "kept for later") || p.NoToolchain != "" {
		t.Errorf("the second time, %q:\n%s", p.NoToolchain, log)
	}
	if program, err := os.ReadFile(filepath.Join(p.Toolchain.Tree, "bin/go")); err != nil || string(program) != "one" || p.Toolchain.Path != "/usr/local/go" {
		t.Errorf("got %+v with program %q, %v", p.Toolchain, program, err)
	}
	for _, path := range []string{"/usr/local/go", "/go/pkg/mod"} {
		if !slices.Contains(p.Args, "--ignore-path="+path) {
			t.Errorf("kaniko is not told to ignore %s: %q", path, p.Args)
		}
	}
	said, log := s.run(t, strings.Replace(build, "COPY . .", "ENV GOROOT=/usr/local/go", 1))
	if said.Toolchain == nil || carrier(t, said).Path != "/usr/local/go/go.env" {
		t.Errorf("where the Dockerfile says what is so anyway:\n%s", log)
	}
	settings := carrier(t, p)
	want := fmt.Sprintf("GOPROXY=http://proxy.example\nGOTOOLCHAIN=local\nGOCACHE=%s\nGOFLAGS=-debug-actiongraph=%s\nGOMODCACHE=/go/pkg/mod\n", s.path("built/go-build"), p.ActionGraph)
	if settings.Path != "/usr/local/go/go.env" || settings.Content != want {
		t.Errorf("%s is\n%s\nwant\n%s", settings.Path, settings.Content, want)
	}
	// kaniko gets the base without Go, and the target's base as it is.
	entries, err := os.ReadDir(s.path("prepared/bases"))
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(s.path("prepared/bases"), entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		folders = append(folders, strings.Split(strings.TrimPrefix(target, s.root+"/cache/"), "/")[0])
	}
	if slices.Sort(folders); !slices.Equal(folders, []string{"bases", "toolchains"}) {
		t.Errorf("base images come from %q", folders)
	}
}

func TestWhyGoIsNotFromTheVolume(t *testing.T) {
	t.Parallel()
	const (
		inGo   = "/usr/local/go/go.env"
		inHome = "/root/.config/go/env"
	)
	for name, tc := range map[string]struct {
		dockerfile string
		change     func(s *site)
		why        string
		carrier    string
	}{
		"the param":              {build, func(s *site) { s.env["PARAM_TOOLCHAIN_CACHE"] = "false" }, "the param toolchain-cache says so", inGo},
		"no workspace":           {build, func(s *site) { s.env["WORKSPACE_TOOLCHAINS_PATH"] = "" }, "no workspace toolchains is bound: bind it to the folder toolchains of the workspace cache", inGo},
		"another workspace":      {build, func(s *site) { s.env["WORKSPACE_TOOLCHAINS_PATH"] = s.path("source") }, "the workspace toolchains is not the folder toolchains of the workspace cache: bind both to one claim, this one with the other's subPath and /toolchains", inGo},
		"writable":               {build, func(s *site) { s.host.ReadOnly = nil }, "the workspace toolchains is not mounted read-only", inGo},
		"no cache":               {build, func(s *site) { s.env["WORKSPACE_CACHE_PATH"] = "" }, "no workspace cache is bound", inHome},
		"no cache, another user": {"FROM golang:1\nUSER nobody\nRUN go build\n", func(s *site) { s.env["WORKSPACE_CACHE_PATH"] = "" }, "no workspace cache is bound", inGo},
		"a line":                 {"FROM golang:1\nRUN ls /usr/local/go/src\n", nil, "Dockerfile:2: RUN names /usr/local/go/src", inGo},
		"all of it copied":       {"FROM alpine\nCOPY --from=golang:1 /usr/local/go /usr/local/go\n", nil, "Dockerfile:2: COPY copies from /usr/local/go", inHome},
		"two Gos":                {"FROM golang:1 AS build\nFROM golang:2\nCOPY --from=build /a /a\n", nil, "golang:1 and golang:2 both have one", inGo},
		"two other Gos":          {"FROM golang:1 AS build\nFROM golang:other\nCOPY --from=build /a /a\n", nil, "golang:1 and golang:other both have one", inHome},
		"no Go":                  {"FROM alpine\nRUN apk add go\n", nil, "no base image has one at /usr/local/go", inHome},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if tc.change != nil {
				tc.change(s)
			}
			for _, when := range []string{"first", "second"} {
				if when == "second" && s.env["WORKSPACE_CACHE_PATH"] != "" {
					// What another build has kept changes nothing.
					param, workspace, readOnly := s.env["PARAM_TOOLCHAIN_CACHE"], s.env["WORKSPACE_TOOLCHAINS_PATH"], s.host.ReadOnly
					s.env["PARAM_TOOLCHAIN_CACHE"], s.env["WORKSPACE_TOOLCHAINS_PATH"], s.host.ReadOnly = "true", s.path("cache/toolchains"), []string{s.path("cache/toolchains")}
					s.run(t, build)
					s.env["PARAM_TOOLCHAIN_CACHE"], s.env["WORKSPACE_TOOLCHAINS_PATH"], s.host.ReadOnly = param, workspace, readOnly
				}
				p, log := s.run(t, tc.dockerfile)
				if p.NoToolchain != tc.why || p.Toolchain != nil || !strings.Contains(log, "toolchain: Go is not from the cache: "+tc.why+"\n") {
					t.Errorf("%s: got %q\n%s\nwant %q", when, p.NoToolchain, log, tc.why)
				}
				if got := carrier(t, p).Path; got != tc.carrier {
					t.Errorf("%s: the settings are in %s, want %s", when, got, tc.carrier)
				}
				if slices.Contains(p.Args, "--ignore-path=/usr/local/go") {
					t.Errorf("%s: kaniko is told to ignore Go: %q", when, p.Args)
				}
			}
		})
	}
}

func TestGoOfTheTargetsOwnBaseIsNotLeftOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 2 {
		p, log := s.run(t, "FROM golang:1\nCOPY . .\nRUN go build -o /app\n")
		if p.Toolchain == nil {
			t.Fatal(log)
		}
		entries, err := os.ReadDir(s.path("prepared/bases"))
		if err != nil || len(entries) != 1 {
			t.Fatalf("%v, %v", entries, err)
		}
		if target, err := os.Readlink(filepath.Join(s.path("prepared/bases"), entries[0].Name())); err != nil || !strings.HasPrefix(target, s.path("cache/bases")) {
			t.Errorf("kaniko reads %s, %v", target, err)
		}
		if len(p.BaseLayers) != 1 {
			t.Errorf("layers of the base: %q", p.BaseLayers)
		}
	}
}

func TestGoBeforeItHadSettingsOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(t, "golang:old", map[string]string{"usr/local/go/bin/go": "old"})
	p, log := s.run(t, strings.ReplaceAll(build, "golang:1", "golang:old"))
	if got := carrier(t, p).Path; got != "/root/.config/go/env" || p.Toolchain == nil {
		t.Errorf("the settings are in %s\n%s", got, log)
	}
	for _, path := range []string{"/usr/local/go", "/root/.config/go"} {
		if !slices.Contains(p.Args, "--ignore-path="+path) {
			t.Errorf("kaniko is not told to ignore %s: %q", path, p.Args)
		}
	}
}

func TestGoOfABaseWithAUserOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.putAs(t, "golang:old", "1001", map[string]string{"usr/local/go/bin/go": "old"})
	const warning = "Dockerfile:1: go commands of this user do not find the caches, as the settings are in root's go/env file\n"
	for user, want := range map[string]bool{"": true, "USER root\n": false} {
		_, log := s.run(t, "FROM golang:old\n"+user+"RUN go build\n")
		if strings.Contains(log, warning) != want {
			t.Errorf("with %q:\n%s", user, log)
		}
	}
}

// A Go that a build downloads does not read the base's go.env.
func TestSettingsForAnotherGo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const warning = "Dockerfile:2: ENV names GOTOOLCHAIN=auto: the caches are found by the base image's Go alone, as the settings are in its go.env file\n"
	for change, want := range map[string]struct{ root, warned bool }{
		"":                                      {true, false},
		"ENV GOTOOLCHAIN=auto":                  {true, false},
		"RUN go install golang.org/dl/go1.26.0": {true, false},
		"ENV GOTOOLCHAIN=auto\nUSER nobody":     {false, true},
		"ENV GOTOOLCHAIN=auto\nRUN go env -w CGO_ENABLED=0": {false, true},
		"ENV GOTOOLCHAIN=auto\nCOPY env /root/.config/go/":  {false, true},
		"ENV GOTOOLCHAIN=local\nUSER nobody":                {false, false},
		"ENV HOME=/home/me":                                 {false, false},
	} {
		if err := os.WriteFile(s.path("source/env"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		p, log := s.run(t, strings.Replace(build, "COPY . .", change, 1))
		if carrier(t, p).Path != "/usr/local/go/go.env" {
			t.Errorf("with %q the settings are in %s", change, carrier(t, p).Path)
		}
		root := slices.ContainsFunc(p.Files, func(f plan.File) bool {
			return f.Path == "/root/.config/go/env" && strings.Contains(f.Content, "GOMODCACHE=/go/pkg/mod\n")
		})
		if ignored := slices.Contains(p.Args, "--ignore-path=/root/.config/go"); root != want.root || ignored != want.root {
			t.Errorf("with %q root's file: %t, ignored: %t", change, root, ignored)
		}
		if strings.Contains(log, warning) != want.warned {
			t.Errorf("with %q:\n%s", change, log)
		}
	}
}

func TestADamagedToolchainIsKeptAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p, _ := s.run(t, build)
	if err := os.WriteFile(filepath.Join(p.Toolchain.Tree, "bin/go"), []byte("evil"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, log := s.run(t, build)
	if !strings.Contains(log, "toolchain of golang:1: what the cache has is not used: damaged: ") || p.Toolchain == nil {
		t.Errorf("got\n%s", log)
	}
	if program, err := os.ReadFile(filepath.Join(p.Toolchain.Tree, "bin/go")); err != nil || string(program) != "one" {
		t.Errorf("its program is %q, %v", program, err)
	}
}

// A base image is left out for the sake of its toolchain, and needed when that
// goes while another one is downloaded.
func TestGoThatGoesAfterItsImageWasLeftOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run(t, build)
	if err := os.RemoveAll(s.path("cache/bases")); err != nil {
		t.Fatal(err)
	}
	s.asked = func(r *http.Request) {
		// Its layers are asked for from when kaniko's folder is there.
		if _, err := os.Stat(s.path("prepared/bases")); err != nil || !strings.Contains(r.URL.Path, "/alpine/blobs/") {
			return
		}
		kept, err := filepath.Glob(s.path("cache/toolchains/sha256:*"))
		for _, entry := range kept {
			if _, treeErr := os.Stat(filepath.Join(entry, "go")); treeErr == nil {
				err = os.RemoveAll(entry)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	p, log := s.run(t, build)
	if p.Toolchain != nil || !strings.Contains(log, "base golang:1: downloaded in ") {
		t.Errorf("its Go is %+v\n%s", p.Toolchain, log)
	}
	bases, err := filepath.Glob(s.path("prepared/bases/*/index.json"))
	if err != nil || len(bases) != 2 {
		t.Errorf("kaniko finds %q, %v\n%s", bases, err, log)
	}
}
