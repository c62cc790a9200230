package modules_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"

	"github.com/slipway-ci/slipway/internal/modules"
	"github.com/slipway-ci/slipway/internal/step"
)

const password = "letter-of-marque"

// proxy is a module proxy that wants a password, with one module.
type proxy struct {
	*httptest.Server
	files    map[string]string
	requests atomic.Int32
	failures atomic.Int32 // how many of the next requests fail
	sum      string       // go.sum of who uses the module
}

var id = module.Version{Path: "corp.example/Secret/lib", Version: "v1.2.3"}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	const goMod = "module corp.example/Secret/lib\n\ngo 1.26\n"
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), goMod)
	write(t, filepath.Join(dir, "lib.go"), "package lib\n\nconst Word = \"aye\"\n")
	var archive bytes.Buffer
	if err := zip.CreateFromDir(&archive, id, dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "lib.zip")
	write(t, name, archive.String())
	sum, err := dirhash.HashZip(name, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	modSum, err := dirhash.Hash1([]string{"go.mod"}, func(file string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, file)) })
	if err != nil {
		t.Fatal(err)
	}
	const at = "/corp.example/!secret/lib/@v/v1.2.3"
	p := &proxy{files: map[string]string{
		at + ".info": `{"Version":"v1.2.3","Time":"2026-01-02T03:04:05Z"}`,
		at + ".mod":  goMod,
		at + ".zip":  archive.String(),
	}}
	p.sum = fmt.Sprintf("%[1]s %[2]s %[3]s\n%[1]s %[2]s/go.mod %[4]s\n", id.Path, id.Version, sum, modSum)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		content, ok := p.files[r.URL.Path]
		switch user, given, _ := r.BasicAuth(); {
		case p.failures.Add(-1) >= 0:
			w.WriteHeader(http.StatusBadGateway)
		case user != "robot" || given != password:
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(content))
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) fetcher(t *testing.T) *modules.Fetcher {
	return &modules.Fetcher{
		Proxies: p.URL, Cache: t.TempDir(), Client: p.Client(),
		Netrc: modules.Netrc{"127.0.0.1": {Name: "robot", Password: password}},
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The go command builds with what was fetched, without a proxy and without a
// credential.
func TestGoBuildsWithWhatWasFetched(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	f := p.fetcher(t)
	wanted := modules.Private("corp.example/*", []byte(p.sum), []byte("example.com/public v1.0.0 h1:x=\n"))
	if len(wanted) != 1 {
		t.Fatalf("wanted %v", wanted)
	}
	done, err := f.Fetch(t.Context(), wanted)
	if err != nil || done.New != 1 || done.Bytes == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	app := t.TempDir()
	write(t, filepath.Join(app, "go.mod"), "module app\n\ngo 1.26\n\nrequire corp.example/Secret/lib v1.2.3\n")
	write(t, filepath.Join(app, "go.sum"), p.sum)
	write(t, filepath.Join(app, "main.go"), "package main\n\nimport lib \"corp.example/Secret/lib\"\n\nfunc main() { println(lib.Word) }\n")
	for _, args := range [][]string{{"mod", "download"}, {"build", "-o", os.DevNull, "."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = app
		cmd.Env = append(os.Environ(), "GOMODCACHE="+f.Cache, "GOPROXY=off", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}

	before := p.requests.Load()
	if done, err := f.Fetch(t.Context(), wanted); err != nil || done.New != 0 || p.requests.Load() != before {
		t.Errorf("the second time: %+v, %v, %d requests", done, err, p.requests.Load()-before)
	}
	info, err := os.Stat(filepath.Join(f.Cache, "cache/download/corp.example/!secret/lib/@v"))
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the folder of locks: %v, %v", info, err)
	}
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  func(p *proxy, f *modules.Fetcher)
		want string
		code int
	}{
		"without a login": {
			func(_ *proxy, f *modules.Fetcher) { f.Netrc = nil },
			"401 Unauthorized: bind the workspace netrc to a secret whose key .netrc has a line for machine 127.0.0.1", step.ExitBadInput,
		},
		"with a wrong login": {
			func(_ *proxy, f *modules.Fetcher) { f.Netrc["127.0.0.1"] = modules.Login{Name: "robot", Password: "x"} },
			"401 Unauthorized: the login that the workspace netrc has for 127.0.0.1 may not read it", step.ExitBadInput,
		},
		"without a proxy": {
			func(_ *proxy, f *modules.Fetcher) { f.Proxies = "direct" },
			"there is no proxy to fetch it from; set the param go-private-proxy to the URL of one, or to direct", step.ExitBadInput,
		},
		"what the proxy has not": {
			func(p *proxy, _ *modules.Fetcher) { clear(p.files) },
			"404 Not Found: the proxy has no such module or version", step.ExitBadInput,
		},
		"what was changed": {
			func(p *proxy, _ *modules.Fetcher) { p.files["/corp.example/!secret/lib/@v/v1.2.3.mod"] += "\n" },
			"find out who changed it before you change go.sum", step.ExitBadInput,
		},
		"an archive that was changed": {
			func(p *proxy, _ *modules.Fetcher) { p.files["/corp.example/!secret/lib/@v/v1.2.3.zip"] = "PK" },
			"zip: not a valid zip file", step.ExitBadInput,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			f := p.fetcher(t)
			tc.set(p, f)
			_, err := f.Fetch(t.Context(), modules.Private("corp.example", []byte(p.sum)))
			if err == nil || !strings.HasPrefix(err.Error(), "module corp.example/Secret/lib@v1.2.3: ") || !strings.HasSuffix(err.Error(), tc.want) || step.ExitCode(err) != tc.code {
				t.Errorf("got %v (exit code %d)\nwant %s", err, step.ExitCode(err), tc.want)
			}
			if err != nil && strings.Contains(err.Error(), password) {
				t.Error("the error has the password")
			}
			found, globErr := filepath.Glob(filepath.Join(f.Cache, "cache/download/corp.example/!secret/lib/@v/*.zip*"))
			if globErr != nil || len(found) > 0 {
				t.Errorf("left behind: %q, %v", found, globErr)
			}
		})
	}
}

// Another build may use what it has put there, be it just now.
func TestFetchWritesNothingOverAnothersFiles(t *testing.T) {
	t.Parallel()
	const download = "cache/download/corp.example/!secret/lib/@v/v1.2.3"
	for name, others := range map[string]map[string]string{
		"an archive with its hash": {download + ".zip": "another's", download + ".ziphash": "h1:another's"},
		"files":                    {"corp.example/!secret/lib@v1.2.3/lib.go": "package another"},
		"a go.mod":                 {download + ".mod": "module another"},
	} {
		for _, when := range []string{"before", ".mod", ".info"} {
			if name == "a go.mod" && when != "before" {
				continue // it comes alone no longer than that
			}
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t)
				f := p.fetcher(t)
				plant := func() {
					for file, content := range others {
						write(t, filepath.Join(f.Cache, file), content)
					}
				}
				handler := p.Config.Handler
				p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, when) {
						plant()
					}
					handler.ServeHTTP(w, r)
				})
				if when == "before" {
					plant()
				}
				_, err := f.Fetch(t.Context(), modules.Private("corp.example", []byte(p.sum)))
				if !errors.Is(err, modules.ErrOther) {
					t.Errorf("got %v", err)
				}
				for file, want := range others {
					if content, err := os.ReadFile(filepath.Join(f.Cache, file)); err != nil || string(content) != want {
						t.Errorf("%s is %q, %v", file, content, err)
					}
				}
			})
		}
	}
}

func TestProxiesAreAskedInOrder(t *testing.T) {
	t.Parallel()
	absent := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(absent.Close)
	p := newProxy(t)
	for proxies, ok := range map[string]bool{
		absent.URL + "," + p.URL:      true,
		"http://127.0.0.1:1|" + p.URL: true,
		p.URL + ",direct":             true,
		"http://127.0.0.1:1," + p.URL: false,
		absent.URL + "/," + p.URL:     true,
		"off," + p.URL:                false,
	} {
		f := p.fetcher(t)
		f.Proxies = proxies
		if _, err := f.Fetch(t.Context(), modules.Private("*", []byte(p.sum))); (err == nil) != ok {
			t.Errorf("%s: %v", proxies, err)
		}
	}
}

func TestAFailureThatPasses(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.failures.Store(1)
	if _, err := p.fetcher(t).Fetch(t.Context(), modules.Private("*", []byte(p.sum))); err != nil {
		t.Error(err)
	}
}

func TestReadNetrc(t *testing.T) {
	t.Parallel()
	robot := modules.Login{Name: "robot", Password: password}
	for content, want := range map[string]modules.Netrc{
		"machine a.example login robot password " + password + "\n":                                                                   {"a.example": robot},
		"machine a.example\n  login robot\n  password " + password + "\nmachine b.example login robot password " + password:           {"a.example": robot, "b.example": robot},
		"macdef init\nmachine no.example login x password y\n\nmachine a.example login robot password " + password:                    {"a.example": robot},
		"machine a.example login robot password " + password + "\ndefault login x password y\nmachine c.example login x password y\n": {"a.example": robot},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, ".netrc"), content)
		got, err := modules.ReadNetrc(dir)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", content, got, err)
		}
		for host, login := range want {
			if got[host] != login {
				t.Errorf("%q: %s has %v", content, host, got[host])
			}
		}
	}

	optional := t.TempDir()
	write(t, filepath.Join(optional, "..data", "x"), "")
	for _, dir := range []string{"", optional} {
		if got, err := modules.ReadNetrc(dir); err != nil || got != nil {
			t.Errorf("%s: %v, %v", dir, got, err)
		}
	}
	for name, want := range map[string]string{
		"token":  "workspace netrc has the key token, and neither .netrc nor netrc",
		".netrc": "workspace netrc: no line reads: machine HOST login NAME password PASSWORD",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, name), "hunter2")
		if _, err := modules.ReadNetrc(dir); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := modules.ReadNetrc(filepath.Join(optional, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
