package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"

	"github.com/slipway-ci/slipway/internal/git/gittest"
)

// holders are the files below root, and the names of those in which one of the
// words is.
func (w *world) holders(t *testing.T, words ...string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(w.root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, word := range words {
			if bytes.Contains(content, []byte(word)) && !strings.HasSuffix(path, "/bin/prepare") {
				found = append(found, strings.TrimPrefix(path, w.root+"/"))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The build gets the secrets that its Dockerfile mounts in the stages that are
// built, and no other.
func TestOnlyMountedSecretsReachTheBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, value := range map[string]string{"npmrc": "word-one", "other": "word-two", "unused": "word-three"} {
		w.write(t, "secrets/"+name, value)
	}
	w.env["WORKSPACE_SECRETS_PATH"] = w.path("secrets")
	w.write(t, "source/Dockerfile", "FROM golang:alpine AS no\nRUN --mount=type=secret,id=unused true\n"+
		"FROM golang:alpine\nRUN --mount=type=secret,id=npmrc,target=/root/.npmrc --mount=type=secret,id=absent npm ci\n")
	log := w.mustRun(t)
	if !strings.Contains(log, "Dockerfile:4: RUN goes without the secret absent: the workspace secrets has none\n") {
		t.Errorf("log:\n%s", log)
	}
	got := fmt.Sprint(w.holders(t, "word-one", "word-two", "word-three"))
	if want := "[secrets/npmrc secrets/other secrets/unused secrets-for-run/npmrc]"; got != want {
		t.Errorf("secrets are in %s, want %s", got, want)
	}
	if plan := w.read(t, "prepared/plan.json"); strings.Count(plan, `"--secret=`) != 1 || !strings.Contains(plan, `"--secret=id=npmrc,src=`+w.path("secrets-for-run/npmrc")+`"`) {
		t.Errorf("plan:\n%s", plan)
	}
}

// Private modules are in the cache before the build, and the login that they
// took is nowhere.
func TestPrivateModulesNeedNoCredentialInTheBuild(t *testing.T) {
	t.Parallel()
	const password = "letter-of-marque"
	id := module.Version{Path: "corp.example/lib", Version: "v1.0.0"}
	dir := t.TempDir()
	const goMod = "module corp.example/lib\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(goMod), 0o644); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := zip.CreateFromDir(&archive, id, dir); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{".info": `{"Version":"v1.0.0"}`, ".mod": goMod, ".zip": archive.String()}
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, given, _ := r.BasicAuth(); user != "robot" || given != password {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(rw, files[strings.TrimPrefix(r.URL.Path, "/corp.example/lib/@v/v1.0.0")])
	}))
	t.Cleanup(proxy.Close)

	w := newWorld(t, nil)
	w.write(t, "lib.zip", archive.String())
	sum, err := dirhash.HashZip(w.path("lib.zip"), dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	modSum, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(goMod)), nil })
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "source/Dockerfile", "FROM golang:alpine\nARG GONOSUMDB\n")
	w.write(t, "source/tools/go.sum", fmt.Sprintf("corp.example/lib v1.0.0 %s\ncorp.example/lib v1.0.0/go.mod %s\n", sum, modSum))
	for _, folder := range []string{"vendor/x", "testdata", "left-out"} {
		w.write(t, "source/"+folder+"/go.sum", "corp.example/absent v1.0.0 h1:x=\n")
	}
	w.write(t, "source/.dockerignore", "left-out\n")
	w.env["PARAM_GO_PRIVATE"] = "corp.example/*"
	w.env["PARAM_GO_PRIVATE_PROXY"] = proxy.URL

	code, log := w.run(t)
	if want := "401 Unauthorized: bind the workspace netrc to a secret whose key .netrc has a line for machine 127.0.0.1\n"; code != 3 || !strings.HasSuffix(log, want) {
		t.Errorf("without a login: exit code %d\n%s", code, log)
	}

	w.write(t, "netrc/.netrc", "machine 127.0.0.1 login robot password "+password+"\n")
	w.env["WORKSPACE_NETRC_PATH"] = w.path("netrc")
	if log := w.mustRun(t); !strings.Contains(log, "private modules: 1 in go.sum, 1 fetched, ") {
		t.Errorf("log:\n%s", log)
	}
	if got := fmt.Sprint(w.holders(t, password)); got != "[netrc/.netrc]" {
		t.Errorf("the password is in %s", got)
	}
	if got := w.read(t, "cache/go-mod/cache/download/corp.example/lib/@v/v1.0.0.ziphash"); got != sum {
		t.Errorf("the module cache has %q", got)
	}
	if plan := w.read(t, "prepared/plan.json"); !strings.Contains(plan, `"--build-arg=GONOSUMDB=corp.example/*"`) {
		t.Errorf("plan:\n%s", plan)
	}
}

// A private module that only a git server has is in the cache before the build,
// and the login that it took is nowhere.
func TestPrivateModulesComeFromTheirRepositories(t *testing.T) {
	t.Parallel()
	const (
		password = "letter-of-marque"
		host     = "example.com" // which httptest has a certificate of
		goMod    = "module example.com/lib\n"
	)
	id := module.Version{Path: "example.com/lib", Version: "v1.0.0"}
	w := newWorld(t, nil)
	w.write(t, "git/lib.git/go.mod", goMod)
	var archive bytes.Buffer
	if err := zip.CreateFromDir(&archive, id, w.path("git/lib.git")); err != nil {
		t.Fatal(err)
	}
	w.write(t, "lib.zip", archive.String())
	sum, err := dirhash.HashZip(w.path("lib.zip"), dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "."}, {"commit", "--quiet", "--message=x"}, {"tag", "v1.0.0"}} {
		gittest.Run(t, w.path("git/lib.git"), args...)
	}
	var scheme atomic.Value
	scheme.Store("http")
	repositories := gittest.Handler(t, w.path("git"), password)
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("go-get") == "1" {
			fmt.Fprintf(rw, `<meta name="go-import" content="example.com/lib git %s://example.com/lib.git">`, scheme.Load())
			return
		}
		repositories.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	w.env["SSL_CERT_FILE"], w.env["HTTPS_PROXY"] = w.path("ca.pem"), tunnel(t, server.Listener.Addr().String())
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	w.write(t, "source/go.sum", "example.com/lib v1.0.0 "+sum+"\n")
	w.env["PARAM_GO_PRIVATE"], w.env["PARAM_GO_PROXY"] = host+"/*", ""

	code, log := w.run(t)
	if want := "https://example.com/lib?go-get=1 says that its repository is http://example.com/lib.git, and http is not fetched by: give it an https URL there, or name a module proxy that has it in the param go-private-proxy\n"; code != 3 || !strings.HasSuffix(log, want) {
		t.Errorf("by http: exit code %d\n%s", code, log)
	}
	scheme.Store("https")
	code, log = w.run(t)
	if want := "bind the workspace git-credentials to a secret whose key .git-credentials has a line for https://example.com\n"; code != 3 || !strings.HasSuffix(log, want) {
		t.Errorf("without a login: exit code %d\n%s", code, log)
	}
	w.write(t, "git-credentials/.git-credentials", "https://robot:"+password+"@"+host+"\n")
	w.env["WORKSPACE_GIT_CREDENTIALS_PATH"] = w.path("git-credentials")
	if log := w.mustRun(t); !strings.Contains(log, "private modules: 1 in go.sum, 1 fetched, ") {
		t.Errorf("log:\n%s", log)
	}
	if got := fmt.Sprint(w.holders(t, password)); got != "[git-credentials/.git-credentials]" {
		t.Errorf("the password is in %s", got)
	}
	if got := w.read(t, "cache/go-mod/cache/download/example.com/lib/@v/v1.0.0.ziphash"); got != sum {
		t.Errorf("the module cache has %q", got)
	}
}

// tunnel is an HTTP proxy that has every https host at one address.
func tunnel(t *testing.T, address string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		target, err := net.Dial("tcp", address)
		if err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = target.Close() }()
		client, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = client.Close() }()
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(target, client) }()
		_, _ = io.Copy(client, target)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
