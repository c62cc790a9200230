package modules_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

	"github.com/slipway-ci/slipway/internal/git"
	"github.com/slipway-ci/slipway/internal/git/gittest"
	"github.com/slipway-ci/slipway/internal/modules"
	"github.com/slipway-ci/slipway/internal/step"
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

// What comes from a repository is what the go command makes of it: the same
// go.mod, files and time.
func TestDirectIsWhatGoDownloads(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	ids := []module.Version{}
	want := func(path string, versions ...string) {
		for _, version := range versions {
			ids = append(ids, module.Version{Path: path, Version: version})
		}
	}

	lib := h.repository(t, "lib", "corp.example/lib")
	gittest.Run(t, lib.dir, "config", "core.autocrlf", "false")
	if err := os.Symlink("lib.go", filepath.Join(lib.dir, "link.go")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(lib.dir, "submodule"), 0o755); err != nil {
		t.Fatal(err)
	}
	lib.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("7", 40)+",submodule")
	write(t, filepath.Join(lib.dir, "run.sh"), "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(lib.dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	lib.commit(map[string]string{
		"go.mod": "module corp.example/lib\n\ngo 1.26\n", "lib.go": goFile, "LICENSE": "root\n",
		"vendor/a.example/a/a.go": goFile, "vendor/modules.txt": "# a.example/a v1.0.0\n",
		"inner/go.mod": "module corp.example/lib/inner\n", "inner/inner.go": goFile,
		"left/out.go": goFile, "subst.txt": "$Format:%H$\n",
		"dos.txt": "a\nb\r\nc", "unix.txt": "a\nb\n", "data/dos.bin": "a\nb\x00", "data/deep/er.txt": "a\n", "data/own.txt": "a\n", "data/own.mac": "a\rb\nc\n",
		".gitattributes":      "left export-ignore\nsubst.txt export-subst\n# no\ndos.* text eol=crlf\n*.bin binary\n/data/**/er.txt eol=crlf\n[!a]nix.txt eol=lf\n",
		"data/.gitattributes": "own.* text=auto eol=crlf\n",
	}, "v1.0.0", "inner/v1.0.0")
	if got := lib.git("ls-tree", "HEAD", "submodule", "run.sh", "link.go"); !strings.Contains(got, "160000") || !strings.Contains(got, "100755") || !strings.Contains(got, "120000") {
		t.Fatalf("the repository has not what it is to have:\n%s", got)
	}
	want("corp.example/lib", "v1.0.0")
	want("corp.example/lib/inner", "v1.0.0")
	lib.commit(map[string]string{
		"sub/go.mod": "module corp.example/lib/sub\n", "sub/sub.go": goFile,
		"sub/v2/go.mod": "module corp.example/lib/sub/v2\n", "sub/v2/sub.go": goFile, "sub/v2/LICENSE": "own\n",
		"v2/go.mod": "module corp.example/lib/v2\n", "v2/lib.go": goFile,
		"large.bin": strings.Repeat("large", 1<<19),
	}, "sub/v1.1.0", "sub/v2.0.0", "v2.0.0", "v1.1.0")
	want("corp.example/lib", "v1.1.0")
	want("corp.example/lib/sub", "v1.1.0")
	want("corp.example/lib/sub/v2", "v2.0.0")
	want("corp.example/lib/v2", "v2.0.0")

	branch := h.repository(t, "branch", "corp.example/branch")
	branch.commit(map[string]string{"go.mod": "module corp.example/branch\n", "x.go": goFile}, "v1.0.0")
	branch.git("checkout", "--quiet", "-b", "v3")
	branch.commit(map[string]string{"go.mod": "module corp.example/branch/v3\n"}, "v3.0.0")
	branch.git("checkout", "--quiet", "main")
	want("corp.example/branch", "v1.0.0")
	want("corp.example/branch/v3", "v3.0.0")

	old := h.repository(t, "old", "corp.example/old")
	old.commit(map[string]string{"x.go": goFile}, "v1.0.0")
	old.commit(map[string]string{"y.go": goFile}, "v2.0.0")
	want("corp.example/old", "v1.0.0", "v2.0.0+incompatible")

	for name, allow := range map[string]string{"pseudo": "false", "filtered": "true"} {
		untagged := h.repository(t, name, "corp.example/"+name)
		untagged.git("config", "uploadpack.allowFilter", allow)
		untagged.git("config", "uploadpack.allowReachableSHA1InWant", allow)
		first := untagged.commit(map[string]string{"x.go": goFile, "sub/go.mod": "module corp.example/" + name + "/sub\n", "sub/y.go": goFile})
		untagged.git("checkout", "--quiet", "-b", "topic")
		topic := untagged.commit(map[string]string{"z.go": goFile})
		untagged.commit(nil)
		tip := untagged.commit(nil)
		untagged.git("checkout", "--quiet", "main")
		want("corp.example/"+name, first, topic, tip)
		want("corp.example/"+name+"/sub", first, topic)
	}

	skewed := h.repository(t, "skewed", "corp.example/skewed")
	before := skewed.commit(map[string]string{"x.go": goFile})
	skewed.git("commit", "--quiet", "--allow-empty", "--date=2020-01-01T00:00:00Z", "--message=x")
	skewed.git("rebase", "--quiet", "--committer-date-is-author-date", "--force-rebase", "HEAD~1")
	want("corp.example/skewed", before)

	upper := h.repository(t, "upper", "corp.example/Team/Lib")
	upper.commit(map[string]string{"go.mod": "module corp.example/Team/Lib\n", "X.go": goFile}, "v1.2.3-RC1")
	want("corp.example/Team/Lib", "v1.2.3-RC1")

	folder := h.repository(t, "folder", "corp.example/folder")
	h.pages.Store("corp.example/folder", h.page("corp.example/folder")+" src/go")
	folder.commit(map[string]string{"src/go/go.mod": "module corp.example/folder\n", "src/go/x.go": goFile, "LICENSE": "root\n"}, "src/go/v1.0.0")
	want("corp.example/folder", "v1.0.0")

	var wanted []modules.Module
	all := h.oracle(t, ids...)
	if len(all) != len(ids) {
		t.Fatalf("the go command tells of %d modules, want %d", len(all), len(ids))
	}
	for _, one := range all {
		if one.Error != "" {
			t.Fatalf("the go command: %s", one.Error)
		}
		wanted = append(wanted, modules.Module{Version: module.Version{Path: one.Path, Version: one.Version}, Sum: one.Sum, ModSum: one.GoModSum})
	}
	f := h.fetcher(t)
	done, err := f.Fetch(t.Context(), wanted)
	if err != nil || done.New != len(wanted) {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, one := range all {
		path, err := module.EscapePath(one.Path)
		if err != nil {
			t.Fatal(err)
		}
		version, err := module.EscapeVersion(one.Version)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(f.Cache, "cache", "download", path, "@v", version)
		if got, want := read(t, at+".mod"), read(t, one.GoMod); got != want {
			t.Errorf("%s@%s: go.mod %q, the go command has %q", one.Path, one.Version, got, want)
		}
		if got, want := timeOf(t, at+".info"), timeOf(t, one.Info); got != want {
			t.Errorf("%s@%s: time %s, the go command has %s", one.Path, one.Version, got, want)
		}
	}
	for _, one := range h.download(t, f.Cache, "off", ids) {
		if one.Error != "" {
			t.Errorf("the go command with what was fetched: %s", one.Error)
		}
	}
	if left, err := os.ReadDir(f.Direct.Folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

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

func TestDirectLogsIn(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	h.password = password
	login, err := url.Parse("http://robot:" + password + "@git.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	f := h.fetcher(t)
	f.Netrc = modules.Netrc{"corp.example": {Name: "page", Password: password}, "git.corp.example": {Name: "not-me", Password: "x"}}
	f.Direct.Credentials = git.Credentials{login}
	if _, err := f.Fetch(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	slices.Sort(h.seen)
	if got := fmt.Sprint(slices.Compact(h.seen)); got != "[corp.example page git.corp.example robot]" {
		t.Errorf("logins: %s", got)
	}
}

// A proxy decides where it redirects to, and not who gets a login in the clear.
func TestAProxySendsNoLoginElsewhere(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	h.answer["goproxy.corp.example"] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://other.corp.example"+r.URL.Path, http.StatusFound)
	}
	f := h.fetcher(t)
	f.Proxies = "http://goproxy.corp.example"
	f.Netrc = modules.Netrc{"goproxy.corp.example": {Name: "robot", Password: password}, "other.corp.example": {Name: "me", Password: password}}
	if _, err := f.Fetch(t.Context(), wanted); err == nil || !strings.Contains(err.Error(), "404 Not Found") {
		t.Errorf("the error is %v", err)
	}
	slices.Sort(h.seen)
	if got := fmt.Sprint(slices.Compact(h.seen)); got != "[goproxy.corp.example robot]" {
		t.Errorf("logins: %s", got)
	}
}

// GitLab knows no deploy token where pages are, and shows them to everybody else.
func TestDirectReadsPagesThatItsLoginMayNotRead(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	h.pages.Store("corp.example/lib", "corp.example/lib git http://corp.example/lib.git")
	h.answer["corp.example"] = func(w http.ResponseWriter, r *http.Request) {
		_, _, loggedIn := r.BasicAuth()
		switch {
		case r.URL.Query().Get("go-get") == "":
			gittest.Handler(t, h.root, password).ServeHTTP(w, r)
		case loggedIn:
			w.WriteHeader(http.StatusNotFound)
		default:
			fmt.Fprintf(w, "<html><head><meta name='go-import' content='%s'></head>", h.page("corp.example/lib"))
		}
	}
	f := h.fetcher(t)
	f.Netrc = modules.Netrc{"corp.example": {Name: "token", Password: password}}
	if _, err := f.Fetch(t.Context(), wanted); err != nil {
		t.Error(err)
	}
}

// A login is for its host, wherever that sends who asks.
func TestDirectKeepsLoginsToTheirHosts(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	to := func(host string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+host+r.URL.RequestURI(), http.StatusFound)
		}
	}
	moved := map[string]string{"corp.example": "pages.corp.example", "git.corp.example": "mirror.git.corp.example"}
	h.pages.Store("pages.corp.example/lib", h.page("corp.example/lib"))
	h.answer["corp.example"] = to(moved["corp.example"])
	h.answer["git.corp.example"] = to(moved["git.corp.example"])
	h.answer["mirror.git.corp.example"] = gittest.Handler(t, h.root, "").ServeHTTP
	f := h.fetcher(t)
	f.Netrc = modules.Netrc{"corp.example": {Name: "page", Password: password}, "git.corp.example": {Name: "robot", Password: password}}
	_, err := f.Fetch(t.Context(), wanted)
	for _, seen := range h.seen {
		if host, _, _ := strings.Cut(seen, " "); moved[host] == "" {
			t.Errorf("%s has a login", host)
		}
	}
	if len(h.seen) == 0 {
		t.Error("nobody was asked with a login")
	}
	if err != nil {
		t.Error(err)
	}
}

func TestDirectRefuses(t *testing.T) {
	t.Parallel()
	_, known := theModule(t, newGitHost(t))
	for name, tc := range map[string]struct {
		set  func(h *gitHost, lib *gitRepository, f *modules.Fetcher, wanted *modules.Module)
		want string
	}{
		"a page without a login": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) { h.password = password },
			"http://corp.example/lib?go-get=1: 401 Unauthorized: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://corp.example",
		},
		"a repository without a login": {
			func(h *gitHost, _ *gitRepository, f *modules.Fetcher, _ *modules.Module) {
				h.password, f.Netrc = password, modules.Netrc{"corp.example": {Name: "page", Password: password}}
			},
			"repository http://git.corp.example/lib.git: 401 Unauthorized: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://git.corp.example",
		},
		"a repository with a wrong login": {
			func(h *gitHost, _ *gitRepository, f *modules.Fetcher, _ *modules.Module) {
				h.password = password
				f.Netrc = modules.Netrc{"corp.example": {Name: "page", Password: password}, "git.corp.example": {Name: "robot", Password: "x"}}
			},
			"401 Unauthorized: there is nothing, or the login that the workspace netrc has for git.corp.example may not read it",
		},
		"no repository": {
			func(_ *gitHost, lib *gitRepository, _ *modules.Fetcher, _ *modules.Module) { _ = os.RemoveAll(lib.dir) },
			"404 Not Found: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://git.corp.example",
		},
		"a tag that is not there": {
			func(_ *gitHost, _ *gitRepository, _ *modules.Fetcher, wanted *modules.Module) {
				wanted.Version.Version = "v1.0.1"
			},
			"repository http://git.corp.example/lib.git: it has no tag v1.0.1; push it, or require another version",
		},
		"a commit that is not there": {
			func(_ *gitHost, _ *gitRepository, _ *modules.Fetcher, wanted *modules.Module) {
				wanted.Version.Version = "v0.0.0-20260101220405-777777777777"
			},
			"no branch or tag has a commit 777777777777 of 2026-01-01T22:04:05Z; push it, or require another version",
		},
		"a tag that was moved": {
			func(_ *gitHost, lib *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				lib.commit(map[string]string{"lib.go": goFile + "// changed\n"})
				lib.git("tag", "--force", "v1.0.0")
			},
			"find out who changed it before you change go.sum",
		},
		"a folder that is not there": {
			func(_ *gitHost, lib *gitRepository, _ *modules.Fetcher, wanted *modules.Module) {
				lib.git("tag", "absent/v1.0.0")
				wanted.Path = "corp.example/lib/absent"
			},
			" has no absent/go.mod: it has no such module",
		},
		"a page without a tag": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) { h.pages.Clear() },
			"http://corp.example/lib?go-get=1 has no go-import tag that says where its repository is: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://corp.example",
		},
		"file": {
			func(h *gitHost, lib *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib git file://localhost"+lib.dir)
			},
			"and file is not fetched by: give it an https URL there, or name a module proxy that has it in the param go-private-proxy",
		},
		"ssh": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib git ssh://git@git.corp.example/lib.git")
			},
			"http://corp.example/lib?go-get=1 says that its repository is ssh://git@git.corp.example/lib.git, and ssh is not fetched by: give it an https URL there, or name a module proxy that has it in the param go-private-proxy",
		},
		"http": {
			func(_ *gitHost, _ *gitRepository, f *modules.Fetcher, _ *modules.Module) { f.Direct.PlainHTTP = false },
			"Method Not Allowed",
		},
		"another system": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib hg http://hg.corp.example/lib")
			},
			"says that it is in a repository of hg, and only git is known here; name a module proxy that has it in the param go-private-proxy",
		},
		"a proxy": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib mod http://goproxy.corp.example")
			},
			"says that the module proxy http://goproxy.corp.example has it: name that in the param go-private-proxy",
		},
		"another's modules": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example git http://git.corp.example/lib.git")
				h.pages.Store("corp.example", "corp.example git http://git.corp.example/other.git")
			},
			"http://corp.example/lib?go-get=1 and http://corp.example/?go-get=1 disagree about the repository of corp.example; mend their go-import tags",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, wanted := newGitHost(t), slices.Clone(known)
			lib := h.theRepository(t)
			f := h.fetcher(t)
			tc.set(h, lib, f, &wanted[0])
			_, err := f.Fetch(t.Context(), wanted)
			if err == nil || !strings.HasPrefix(err.Error(), "module "+wanted[0].Path+"@") || !strings.HasSuffix(err.Error(), tc.want) {
				t.Fatalf("got %v\nwant %s", err, tc.want)
			}
			if name != "http" && step.ExitCode(err) != step.ExitBadInput {
				t.Errorf("the exit code is %d, want that of bad input", step.ExitCode(err))
			}
			if strings.Contains(err.Error(), password) {
				t.Error("the error has the password")
			}
			found, globErr := filepath.Glob(filepath.Join(f.Cache, "cache/download/corp.example/lib/@v/*.zip*"))
			left, dirErr := os.ReadDir(f.Direct.Folder)
			if globErr != nil || dirErr != nil || len(found) > 0 || len(left) > 0 {
				t.Errorf("left behind: %q, %v, %v, %v", found, globErr, left, dirErr)
			}
		})
	}
}

func TestDirectIsAskedInItsPlace(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	absent := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(absent.Close)
	const fails = "http://127.0.0.1:1"
	for proxies, ok := range map[string]bool{
		"direct":                      true,
		absent.URL + ",direct":        true,
		fails + "|direct":             true,
		fails + ",direct":             false,
		absent.URL + ",off,direct":    false,
		"off":                         false,
		"direct,off":                  true,
		absent.URL + "," + absent.URL: false,
	} {
		f := h.fetcher(t)
		transport := f.Client.Transport.(*http.Transport)
		throughHost := transport.Proxy
		transport.Proxy = func(r *http.Request) (*url.URL, error) {
			if r.URL.Hostname() == "127.0.0.1" {
				return nil, nil
			}
			return throughHost(r)
		}
		f.Proxies = proxies
		if _, err := f.Fetch(t.Context(), wanted); (err == nil) != ok {
			t.Errorf("%s: %v", proxies, err)
		}
	}
	f := h.fetcher(t)
	f.Direct = nil
	if _, err := f.Fetch(t.Context(), wanted); err == nil {
		t.Error("without Direct it is fetched all the same")
	}
}

func TestDirectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	h.answer["git.corp.example"] = func(_ http.ResponseWriter, r *http.Request) {
		cancel(stopped)
		<-r.Context().Done()
	}
	if _, err := h.fetcher(t).Fetch(ctx, wanted); err == nil || !errors.Is(context.Cause(ctx), stopped) {
		t.Errorf("the error is %v", err)
	}
}

// A repository is fetched by what its path tells, without a page.
func TestDirectByPath(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	lib, wanted := theModule(t, h)
	h.pages.Clear()
	h.answer["github.com"] = gittest.Handler(t, h.root, "").ServeHTTP
	gittest.Run(t, h.root, "clone", "--quiet", "--mirror", lib.dir, filepath.Join("team", "lib.git"))
	for _, path := range []string{"github.com/team/lib", "git.corp.example/lib.git"} {
		f := h.fetcher(t)
		one := wanted[0]
		one.Path, one.Sum = path, "" // which has the path in it
		if _, err := f.Fetch(t.Context(), []modules.Module{one}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
