package modules_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/slipway-ci/slipway/internal/git/gittest"
	"github.com/slipway-ci/slipway/internal/modules"
)

// gitHost is every host of the world: an HTTP proxy that answers itself. Pages
// are at corp.example and its like, repositories at git.corp.example.
type gitHost struct {
	*httptest.Server
	root     string
	password string                      // of the repositories and pages; "" for none
	pages    sync.Map                    // contents of go-import tags, by path with host
	answer   map[string]http.HandlerFunc // in place of all that, by host

	mu   sync.Mutex
	seen []string // "HOST LOGIN" of each request that had a login
}

func newGitHost(t *testing.T) *gitHost {
	t.Helper()
	h := &gitHost{root: t.TempDir(), answer: map[string]http.HandlerFunc{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, given, ok := r.BasicAuth()
		if ok {
			h.mu.Lock()
			h.seen = append(h.seen, r.Host+" "+user)
			h.mu.Unlock()
		}
		if answer := h.answer[r.Host]; answer != nil {
			answer(w, r)
			return
		}
		switch {
		case r.Method == http.MethodConnect: // https
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.URL.Query().Get("go-get") == "1" && given != h.password:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Query().Get("go-get") == "1":
			fmt.Fprintf(w, "<!DOCTYPE html><html><head><meta charset=utf-8><meta name='go-import' content='%s'></head><body>&nbsp;", h.page(r.Host+strings.TrimSuffix(r.URL.Path, "/")))
		case r.Host == "git.corp.example":
			gittest.Handler(t, h.root, h.password).ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

// page is what the page of a path says, or of what the path is below: GitLab
// tells of the repository on the pages of all modules in it.
func (h *gitHost) page(path string) string {
	for ; path != "."; path = filepath.Dir(path) {
		if content, ok := h.pages.Load(path); ok {
			return content.(string)
		}
	}
	return ""
}

// repository makes one with modules whose paths begin with prefix.
func (h *gitHost) repository(t *testing.T, name, prefix string) *gitRepository {
	t.Helper()
	h.pages.Store(prefix, prefix+" git http://git.corp.example/"+name+".git")
	dir := filepath.Join(h.root, name+".git")
	gittest.Run(t, h.root, "init", "--quiet", "--initial-branch=main", dir)
	return &gitRepository{t, dir}
}

type gitRepository struct {
	t   *testing.T
	dir string
}

func (r *gitRepository) git(args ...string) string {
	r.t.Helper()
	return gittest.Run(r.t, r.dir, args...)
}

// commit adds files, and names the commit by tags.
func (r *gitRepository) commit(files map[string]string, tags ...string) (pseudoVersion string) {
	r.t.Helper()
	for name, content := range files {
		write(r.t, filepath.Join(r.dir, name), content)
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--allow-empty", "--message=x")
	for _, tag := range tags {
		r.git("tag", "--annotate", "--message=x", tag)
	}
	return module.PseudoVersion("v0", "", time.Date(2026, 1, 1, 22, 4, 5, 0, time.UTC), r.git("rev-parse", "HEAD")[:12])
}

func (h *gitHost) fetcher(t *testing.T) *modules.Fetcher {
	t.Helper()
	proxy, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &modules.Fetcher{
		Proxies: "direct", Cache: t.TempDir(), Client: &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}},
		Direct: &modules.Direct{Folder: t.TempDir(), Log: t.Logf, PlainHTTP: true},
	}
}

// downloaded is what go mod download -json says of a module.
type downloaded struct {
	Path, Version, Error, Info, GoMod, Sum, GoModSum string
}

// oracle has the go command download modules from the host, and git for it.
func (h *gitHost) oracle(t *testing.T, ids ...module.Version) []downloaded {
	t.Helper()
	return h.download(t, t.TempDir(), "direct", ids)
}

// download has the go command put modules into a cache where they are not there.
func (h *gitHost) download(t *testing.T, cache, proxy string, ids []module.Version) []downloaded {
	t.Helper()
	args := []string{"mod", "download", "-json"}
	for _, id := range ids {
		args = append(args, id.String())
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "GOMODCACHE="+cache, "GOPROXY="+proxy, "GONOSUMDB=*", "GOINSECURE=*", "GOVCS=*:git",
		"GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GO111MODULE=on", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"HTTP_PROXY="+h.URL, "HTTPS_PROXY="+h.URL, "http_proxy="+h.URL, "https_proxy="+h.URL, "NO_PROXY=", "no_proxy=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output() // it fails where one module does
	if err != nil && len(out) == 0 {
		t.Fatalf("go mod download: %v\n%s", err, &stderr)
	}
	var all []downloaded
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var one downloaded
		if err := decoder.Decode(&one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

const goFile = "package x\n"

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func timeOf(t *testing.T, file string) string {
	t.Helper()
	var info struct{ Time string }
	if err := json.Unmarshal([]byte(read(t, file)), &info); err != nil {
		t.Fatal(err)
	}
	return info.Time
}

// theRepository is that of corp.example/lib, with v1.0.0.
func (h *gitHost) theRepository(t *testing.T) *gitRepository {
	t.Helper()
	lib := h.repository(t, "lib", "corp.example/lib")
	lib.commit(map[string]string{"go.mod": "module corp.example/lib\n", "lib.go": goFile}, "v1.0.0")
	return lib
}

// theModule is in it, as go.sum has it.
func theModule(t *testing.T, h *gitHost) (*gitRepository, []modules.Module) {
	t.Helper()
	lib := h.theRepository(t)
	one := h.oracle(t, module.Version{Path: "corp.example/lib", Version: "v1.0.0"})[0]
	if one.Error != "" {
		t.Fatal(one.Error)
	}
	return lib, []modules.Module{{Version: module.Version{Path: one.Path, Version: one.Version}, Sum: one.Sum, ModSum: one.GoModSum}}
}

// wantLogins compares with which logins the hosts were asked, each once and in
// order: [HOST NAME …].
func (h *gitHost) wantLogins(t *testing.T, want string) {
	t.Helper()
	slices.Sort(h.seen)
	if got := fmt.Sprint(slices.Compact(h.seen)); got != want {
		t.Errorf("logins: %s", got)
	}
}
