package prepare_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"

	"github.com/slipway-ci/slipway/internal/plan"
)

// A module cache that an instruction copies is the image's own, and what is
// kept is a proxy for it.
func TestModulesOfTheImage(t *testing.T) {
	t.Parallel()
	const copied = "FROM golang:1 AS deps\nRUN go mod download\nFROM golang:1\nCOPY --from=deps /go/pkg/mod /go/pkg/mod\n"
	s := newSite(t)
	s.env["PARAM_GO_PRIVATE"] = "corp.example"
	kept := "GOPROXY=file://" + s.path("built/go-mod/cache/download") + "|"
	for name, tc := range map[string]struct {
		dockerfile, proxy string
		want, not         []string // in the settings
		own               bool
	}{
		"linked":          {build, "http://proxy.example", []string{"GOPROXY=http://proxy.example\n", "GOMODCACHE=/go/pkg/mod\n"}, []string{"file:"}, false},
		"copied":          {copied, "http://proxy.example", []string{kept + "http://proxy.example\n", "GONOPROXY=none\n"}, []string{"GOMODCACHE"}, true},
		"linked, default": {build, "", []string{"GOPROXY=https://default.example\n", "GONOPROXY=corp.example\n"}, []string{"file:"}, false},
		"copied, default": {copied, "", []string{kept + "https://default.example\n", "GONOPROXY=none\n"}, []string{"GOMODCACHE", "GONOPROXY=corp.example"}, true},
	} {
		s.env["PARAM_GO_PROXY"] = tc.proxy
		p, log := s.run(t, tc.dockerfile)
		settings := carrier(t, p).Content
		for _, want := range tc.want {
			if !strings.Contains(settings, want) {
				t.Errorf("%s: the settings lack %q:\n%s", name, want, settings)
			}
		}
		for _, not := range tc.not {
			if strings.Contains(settings, not) {
				t.Errorf("%s: the settings have %q:\n%s", name, not, settings)
			}
		}
		path := "/go/pkg/mod"
		if tc.own {
			path = s.path("built/go-mod")
		}
		if !slices.ContainsFunc(p.Links, func(link plan.Link) bool {
			return link.Path == path && filepath.Dir(link.Target) == s.path("cache")
		}) {
			t.Errorf("%s: no link %s to the volume's: %+v", name, path, p.Links)
		}
		if ignored := slices.Contains(p.Args, "--ignore-path=/go/pkg/mod"); ignored == tc.own {
			t.Errorf("%s: kaniko ignores the module cache: %t", name, ignored)
		}
		const said = "modules: the module cache is the image's own: Dockerfile:4: COPY copies from the module cache\n"
		if strings.Contains(log, said) != tc.own {
			t.Errorf("%s:\n%s", name, log)
		}
	}
	// Without a volume as well: private modules are kept for this run.
	s.env["WORKSPACE_CACHE_PATH"] = ""
	p, _ := s.run(t, copied)
	if settings := carrier(t, p).Content; !strings.Contains(settings, kept) {
		t.Errorf("without a volume the settings are\n%s", settings)
	}
	if info, err := os.Stat(p.Links[0].Target); err != nil || !info.IsDir() {
		t.Errorf("%s: %v", p.Links[0].Target, err)
	}
}

// The plan has for the report which caches are not used, and why.
func TestUnusedCachesInThePlan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if p, log := s.run(t, build); len(p.Unused) > 0 || p.Modules == "" {
		t.Errorf("with all caches: %q, modules in %q\n%s", p.Unused, p.Modules, log)
	}
	p, _ := s.run(t, "FROM golang:1\nENV GOCACHE=/tmp/cache\nRUN go mod download && go build\n")
	want := []string{
		"go-mod: Dockerfile:3: RUN go mod download is in the final stage",
		"Dockerfile:2: ENV GOCACHE: go commands use that directory and not the kept build cache",
	}
	if !slices.Equal(p.Unused, want) || p.Modules != "" {
		t.Errorf("got %q, modules in %q, want %q", p.Unused, p.Modules, want)
	}
	s.env["WORKSPACE_CACHE_PATH"] = ""
	if p, _ := s.run(t, build); !slices.Equal(p.Unused, []string{"no workspace cache is bound"}) || p.Modules == "" {
		t.Errorf("without a volume: %q, modules in %q", p.Unused, p.Modules)
	}
	s.env["WORKSPACE_CACHE_PATH"] = s.path("absent")
	if p, _ := s.run(t, build); len(p.Unused) != 4 || !strings.HasPrefix(p.Unused[1], "go-mod: ") {
		t.Errorf("on a volume that is not there: %q", p.Unused)
	}
}

// What go commands with a module cache of their own cannot keep, prepare does.
func TestModulesAreKeptForAnImagesOwn(t *testing.T) {
	t.Parallel()
	const content = "module corp.example/lib\n"
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/corp.example/lib/@v/v1.0.0.mod" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, content)
	}))
	t.Cleanup(proxy.Close)
	hash, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil })
	if err != nil {
		t.Fatal(err)
	}
	const own = "FROM golang:1\nRUN go mod download\n"
	s := newSite(t)
	s.env["PARAM_GO_PROXY"] = proxy.URL
	for _, tc := range []struct{ dockerfile, sums, log string }{
		{build, "corp.example/lib v1.0.0/go.mod " + hash + "\n", ""},
		{own, "corp.example/lib v1.0.0/go.mod " + hash + "\n", "modules: 1 fetched, "},
		{own, "corp.example/lib v1.0.0/go.mod " + hash + "\n", "modules: 0 fetched, "},
		{own, "corp.example/absent v1.0.0/go.mod " + hash + "\n", "modules: not all are on the volume: module corp.example/absent@v1.0.0: "},
	} {
		if err := os.WriteFile(s.path("source/go.sum"), []byte(tc.sums), 0o644); err != nil {
			t.Fatal(err)
		}
		p, log := s.run(t, tc.dockerfile)
		if !strings.Contains(log, tc.log) || strings.Contains(log, "modules: ") != (tc.log != "") {
			t.Errorf("want %q in\n%s", tc.log, log)
		}
		kept, err := os.ReadFile(filepath.Join(p.Links[0].Target, "cache/download/corp.example/lib/@v/v1.0.0.mod"))
		if want := tc.log != ""; (err == nil && string(kept) == content) != want {
			t.Errorf("kept: %q, %v", kept, err)
		}
	}
}

// Another build puts other content of a private module on the volume after this
// one has looked: this one has a module cache of its own.
func TestAnotherBuildsModuleIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	private, sum := privateModule(t)
	another := s.path("cache/go-mod/cache/download/corp.example/lib/@v/v1.0.0.ziphash")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".info") && os.WriteFile(another, []byte("h1:another's"), 0o644) != nil {
			t.Errorf("%s has no folder", another)
		}
		content, ok := private[strings.TrimPrefix(r.URL.Path, "/corp.example/lib/@v/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, content)
	}))
	t.Cleanup(proxy.Close)
	s.env["PARAM_GO_PRIVATE"], s.env["PARAM_GO_PRIVATE_PROXY"] = "corp.example", proxy.URL
	if err := os.WriteFile(s.path("source/go.sum"), []byte("corp.example/lib v1.0.0 "+sum+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, log := s.run(t, build)
	own := s.path("built/cache/go-mod")
	if !slices.ContainsFunc(p.Links, func(link plan.Link) bool { return link.Target == own }) || slices.ContainsFunc(p.Links, func(link plan.Link) bool { return link.Target == s.path("cache/go-mod") }) {
		t.Errorf("the links are %+v\n%s", p.Links, log)
	}
	if p.Modules != own || p.Cache.GoMod != "" || slices.Contains(p.Cache.Holds, s.path("cache/go-mod")) {
		t.Errorf("modules in %q, of the volume %+v", p.Modules, p.Cache)
	}
	if hash, err := os.ReadFile(filepath.Join(own, "cache/download/corp.example/lib/@v/v1.0.0.ziphash")); err != nil || string(hash) != sum {
		t.Errorf("its own has %q, %v\n%s", hash, err, log)
	}
	if hash, err := os.ReadFile(another); err != nil || string(hash) != "h1:another's" {
		t.Errorf("the volume has %q, %v", hash, err)
	}
}

// privateModule is what a proxy has of corp.example/lib v1.0.0, and its hash.
func privateModule(t *testing.T) (files map[string]string, sum string) {
	t.Helper()
	id := module.Version{Path: "corp.example/lib", Version: "v1.0.0"}
	source := t.TempDir()
	archive := filepath.Join(t.TempDir(), "lib.zip")
	if err := os.WriteFile(filepath.Join(source, "go.mod"), []byte("module corp.example/lib\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(zip.CreateFromDir(file, id, source), file.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err = dirhash.HashZip(archive, dirhash.Hash1); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"v1.0.0.info": `{"Version":"v1.0.0"}`, "v1.0.0.mod": "module corp.example/lib\n", "v1.0.0.zip": string(content)}, sum
}
