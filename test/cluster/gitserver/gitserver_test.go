package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const secret = "hush"

type delivery struct {
	header http.Header
	body   []byte
	event  pushEvent
}

// listener takes deliveries, after it has refused the first ones.
func listener(t *testing.T, refuse int32) (url string, deliveries <-chan delivery) {
	t.Helper()
	taken := make(chan delivery, 16)
	var seen atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) <= refuse {
			http.Error(w, "not up yet", http.StatusServiceUnavailable)
			return
		}
		d := delivery{header: r.Header}
		var err error
		if d.body, err = io.ReadAll(r.Body); err == nil {
			err = json.Unmarshal(d.body, &d.event)
		}
		if err != nil {
			t.Error(err)
		}
		taken <- d
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(server.Close)
	return server.URL, taken
}

// gitServer starts the server and returns the URL of a repository on it.
func gitServer(t *testing.T, webhooks ...string) (repository string) {
	t.Helper()
	config := Config{Root: t.TempDir(), ExternalURL: "http://git.example/", WebhookURLs: webhooks, WebhookSecret: secret, PrivateLogin: "robot:ahoy"}
	log := &bytes.Buffer{}
	hooks := newHooks(config, log)
	hooks.backoff = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		hooks.deliver(ctx)
		close(done)
	}()
	server := httptest.NewServer(newHandler(config, hooks, io.Discard))
	t.Cleanup(func() {
		server.Close()
		cancel()
		<-done
		t.Log(log)
	})
	return server.URL + "/demo/app.git"
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

func commitFile(t *testing.T, dir, name string, content []byte, message string) (commit string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", name)
	git(t, dir, "commit", "-q", "-m", message)
	return git(t, dir, "rev-parse", "HEAD")
}

func next(t *testing.T, deliveries <-chan delivery) delivery {
	t.Helper()
	select {
	case d := <-deliveries:
		return d
	case <-t.Context().Done():
	case <-time.After(30 * time.Second):
	}
	t.Fatal("no delivery")
	return delivery{}
}

func TestPushesAreAnnouncedAndSigned(t *testing.T) {
	t.Parallel()
	hook, deliveries := listener(t, 2)
	repository := gitServer(t, hook)
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")

	first := commitFile(t, dir, "a", []byte("1"), "Lay the keel\n\nAll of it.")
	git(t, dir, "push", "-q", repository, "main")
	created := next(t, deliveries)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(created.body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); created.header.Get("X-Hub-Signature-256") != want {
		t.Errorf("signature %s, want %s", created.header.Get("X-Hub-Signature-256"), want)
	}
	if created.header.Get("X-GitHub-Event") != "push" || len(created.header.Get("X-GitHub-Delivery")) != 36 {
		t.Errorf("headers %v", created.header)
	}
	e := created.event
	if e.Ref != "refs/heads/main" || e.Before != noCommit || e.After != first || !e.Created || e.Deleted ||
		e.Repository.CloneURL != "http://git.example/demo/app.git" || e.Repository.FullName != "demo/app" ||
		e.HeadCommit == nil || e.HeadCommit.ID != first || e.HeadCommit.Message != "Lay the keel\n\nAll of it." ||
		e.HeadCommit.Author != (person{"Ada", "ada@example.com"}) {
		t.Errorf("first push: %s", created.body)
	}

	second := commitFile(t, dir, "a", []byte("2"), "Launch")
	git(t, dir, "push", "-q", repository, "main")
	if e := next(t, deliveries).event; e.Before != first || e.After != second || e.Created {
		t.Errorf("second push: %+v", e)
	}

	git(t, dir, "push", "-q", repository, "main:side")
	next(t, deliveries)
	git(t, dir, "push", "-q", repository, ":side")
	if e := next(t, deliveries).event; e.Ref != "refs/heads/side" || e.After != noCommit || !e.Deleted || e.HeadCommit != nil {
		t.Errorf("deletion: %+v", e)
	}

	// Nothing changed, so the next event is that of the push after it.
	git(t, dir, "push", "-q", repository, "main")
	git(t, dir, "tag", "-a", "-m", "v1", "v1")
	git(t, dir, "push", "-q", repository, "v1")
	if e := next(t, deliveries).event; e.Ref != "refs/tags/v1" || e.HeadCommit.ID != second {
		t.Errorf("tag: %+v", e)
	}
}

func TestNoRepositoryWaitsForAnother(t *testing.T) {
	t.Parallel()
	delivered := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event pushEvent
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			t.Error(err)
		}
		if event.Repository.FullName == "demo/app" {
			close(delivered)
			return
		}
		// The first one's listener has no answer until the second has had its turn.
		select {
		case <-delivered:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	second := gitServer(t, server.URL)
	first := strings.Replace(second, "demo/app", "demo/silent", 1)
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	commitFile(t, dir, "a", []byte("1"), "Lay the keel")
	git(t, dir, "push", "-q", first, "main")
	git(t, dir, "push", "-q", second, "main")
	select {
	case <-delivered:
	case <-time.After(30 * time.Second):
		t.Fatal("the push to demo/app was not delivered while that to demo/silent was")
	}
}

func TestWhatWasPushedIsFetched(t *testing.T) {
	t.Parallel()
	repository := gitServer(t)
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	// More than git sends with a known length.
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	first := commitFile(t, dir, "a", content, "Large")
	commitFile(t, dir, "a", []byte("small"), "Small")
	git(t, dir, "push", "-q", repository, "main")

	clone := filepath.Join(t.TempDir(), "clone")
	git(t, dir, "clone", "-q", repository, clone)
	git(t, clone, "fetch", "-q", "--depth=1", repository, first)
	git(t, clone, "checkout", "-q", "FETCH_HEAD")
	got, err := os.ReadFile(filepath.Join(clone, "a"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestPrivateRepositoriesAreForTheLogin(t *testing.T) {
	t.Parallel()
	repository := strings.Replace(gitServer(t), "demo/app", "private/app", 1)
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	commit := commitFile(t, dir, "a", []byte("1"), "Lay the keel")
	git(t, dir, "push", "-q", repository, "main")
	for login, allowed := range map[string]bool{"": false, "robot:guess@": false, "robot@": false, "robot:ahoy@": true} {
		cmd := exec.CommandContext(t.Context(), "git", "ls-remote", strings.Replace(repository, "http://", "http://"+login, 1), "main")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
		output, err := cmd.CombinedOutput()
		if got := err == nil && strings.HasPrefix(string(output), commit); got != allowed {
			t.Errorf("with %q: fetched %t, want %t: %s", login, got, allowed, output)
		}
	}
}

func TestPathsStayInTheRoot(t *testing.T) {
	t.Parallel()
	handler := newHandler(Config{Root: t.TempDir()}, newHooks(Config{}, io.Discard), io.Discard)
	for _, path := range []string{
		"/", "/app/info/refs", "/.git/info/refs", "/../app.git/info/refs", "/a/%2e%2e/app.git/info/refs",
		"/app.git/config", "/app.git/../x.git/info/refs",
	} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path+"?service=git-receive-pack", nil))
		if recorder.Code == http.StatusOK {
			t.Errorf("%s was answered", path)
		}
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/gone.git/info/refs?service=git-upload-pack", nil))
	if recorder.Code != http.StatusNotFound {
		t.Errorf("a repository nobody pushed: %d", recorder.Code)
	}
}
