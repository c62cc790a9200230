package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// repositoryPath splits a request's path into repository and what git asks of
// it. No segment starts with a dot, so none leads out of the root.
var repositoryPath = regexp.MustCompile(`^/((?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*)\.git/(info/refs|git-upload-pack|git-receive-pack|HEAD|objects/.+)$`)

// gitConfig lets anyone read and push, and fetch a commit by its id, as GitHub
// does. The repositories may lie on a volume that belongs to someone else.
var gitConfig = []string{
	"GIT_CONFIG_COUNT=4",
	"GIT_CONFIG_KEY_0=http.receivepack", "GIT_CONFIG_VALUE_0=true",
	"GIT_CONFIG_KEY_1=uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_1=true",
	"GIT_CONFIG_KEY_2=safe.directory", "GIT_CONFIG_VALUE_2=*",
	"GIT_CONFIG_KEY_3=init.defaultBranch", "GIT_CONFIG_VALUE_3=main",
}

type handler struct {
	config Config
	hooks  *hooks
	log    io.Writer

	// pushing is held for the time of a push, so that what changed between its
	// start and its end is its own doing.
	pushing sync.Mutex
}

func newHandler(config Config, hooks *hooks, log io.Writer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", &handler{config: config, hooks: hooks, log: log})
	return mux
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	match := repositoryPath.FindStringSubmatch(r.URL.Path)
	if match == nil {
		http.NotFound(w, r)
		return
	}
	name, service := match[1], match[2]
	if service != "git-receive-pack" && r.URL.Query().Get("service") != "git-receive-pack" {
		user, password, _ := r.BasicAuth()
		if strings.HasPrefix(name, "private/") && user+":"+password != h.config.PrivateLogin {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			http.Error(w, "log in to see whether there is such a repository", http.StatusUnauthorized)
			return
		}
		h.git(w, r)
		return
	}
	h.pushing.Lock()
	defer h.pushing.Unlock()
	if err := h.create(r.Context(), name); err != nil {
		fmt.Fprintln(h.log, err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	before, err := h.refs(r.Context(), name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.git(w, r)
	// The push has happened, whether or not the client waited for the answer.
	ctx := context.WithoutCancel(r.Context())
	after, err := h.refs(ctx, name)
	if err == nil {
		err = h.announce(ctx, name, before, after)
	}
	if err != nil {
		fmt.Fprintf(h.log, "push to %s: %v\n", name, err)
	}
}

// git answers a request of git's smart HTTP protocol
// (https://git-scm.com/docs/git-http-backend).
func (h *handler) git(w http.ResponseWriter, r *http.Request) {
	// CGI wants to know the length of a body, which git does not say of a push
	// over 1 MiB.
	if r.ContentLength < 0 {
		body, err := os.CreateTemp("", "push-*")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer os.Remove(body.Name())
		defer body.Close()
		r.ContentLength, err = io.Copy(body, r.Body)
		if err == nil {
			_, err = body.Seek(0, io.SeekStart)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		r.Body, r.TransferEncoding = body, nil
	}
	git, err := exec.LookPath("git")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	backend := &cgi.Handler{
		Path:   git,
		Args:   []string{"http-backend"},
		Env:    append([]string{"GIT_PROJECT_ROOT=" + h.config.Root, "GIT_HTTP_EXPORT_ALL=1"}, gitConfig...),
		Stderr: h.log,
		Logger: log.New(h.log, "", 0),
	}
	backend.ServeHTTP(w, r)
}

func (h *handler) create(ctx context.Context, name string) error {
	dir := h.dir(name)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cmd := exec.CommandContext(ctx, "git", "init", "--quiet", "--bare", dir)
	cmd.Env = append(os.Environ(), gitConfig...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create repository %s: %w: %s", name, err, output)
	}
	return nil
}

// refs maps each ref of a repository to its commit.
func (h *handler) refs(ctx context.Context, name string) (map[string]string, error) {
	output, err := h.query(ctx, name, "for-each-ref", "--format=%(refname) %(objectname)")
	if err != nil {
		return nil, err
	}
	refs := make(map[string]string)
	for line := range strings.Lines(output) {
		ref, commit, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs[ref] = commit
	}
	return refs, nil
}

func (h *handler) query(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--git-dir", h.dir(name)}, args...)...)
	cmd.Env = append(os.Environ(), gitConfig...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s of %s: %w: %s", args[0], name, err, &stderr)
	}
	return string(output), nil
}

func (h *handler) dir(name string) string {
	return filepath.Join(h.config.Root, filepath.FromSlash(name)+".git")
}
