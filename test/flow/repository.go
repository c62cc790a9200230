package flow

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"github.com/slipway-ci/slipway/test/cluster"
)

// Repository is a working copy of a repository on the cluster's git server.
type Repository struct {
	cluster *Cluster
	name    string
	dir     string
}

// NewRepository starts a repository called name with the files of the folder
// from. Nothing is pushed yet. dir is where the working copy is made.
func (c *Cluster) NewRepository(ctx context.Context, name, from, dir string) (*Repository, error) {
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return nil, fmt.Errorf("copy %s: %w", from, err)
	}
	if _, err := git(ctx, dir, "init", "--quiet", "--initial-branch=main"); err != nil {
		return nil, err
	}
	return &Repository{c, name, dir}, nil
}

// URL is the repository's as pods call it.
func (r *Repository) URL() string { return repositoryURL(r.name) }

func repositoryURL(name string) string { return cluster.Git + "/" + name + ".git" }

// Replace changes a file of the working copy. Text that does not occur exactly
// once is an error: a test that changes nothing shows nothing.
func (r *Repository) Replace(file, from, to string) error {
	path := filepath.Join(r.dir, file)
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(content), from); n != 1 {
		return fmt.Errorf("change %s: %q occurs %d times in it, not once", file, from, n)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(content), from, to, 1)), 0o644)
}

// Write makes or replaces a file of the working copy.
func (r *Repository) Write(file, content string) error {
	path := filepath.Join(r.dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// Remove removes a file or folder of the working copy.
func (r *Repository) Remove(file string) error { return os.RemoveAll(filepath.Join(r.dir, file)) }

// Dir is the working copy's folder.
func (r *Repository) Dir() string { return r.dir }

// Commit commits everything, also where nothing has changed, and returns the
// commit.
func (r *Repository) Commit(ctx context.Context, message string) (string, error) {
	if _, err := git(ctx, r.dir, "add", "--all", "--force"); err != nil {
		return "", err
	}
	if _, err := git(ctx, r.dir, "commit", "--quiet", "--allow-empty", "--message="+message); err != nil {
		return "", err
	}
	head, err := git(ctx, r.dir, "rev-parse", "HEAD")
	return strings.TrimSpace(head), err
}

// Push commits everything and pushes it to main, whatever was there before. It
// returns the commit.
func (r *Repository) Push(ctx context.Context, message string) (commit string, err error) {
	if commit, err = r.Commit(ctx, message); err != nil {
		return "", err
	}
	return commit, r.PushCommits(ctx)
}

// PushCommits pushes what is committed to main, whatever was there before.
func (r *Repository) PushCommits(ctx context.Context) error {
	address, stop, err := r.cluster.forward(ctx, "git", "app=git", 8080)
	if err != nil {
		return err
	}
	defer stop()
	_, err = git(ctx, r.dir, "push", "--quiet", "--force", "http://"+address+"/"+r.name+".git", "main")
	return err
}

// forward makes a port of one of the pods that selector selects reachable on
// loopback until stop is called.
func (c *Cluster) forward(ctx context.Context, namespace, selector string, port int) (address string, stop func(), err error) {
	pods, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, FieldSelector: "status.phase=Running"})
	if err != nil {
		return "", nil, err
	}
	if len(pods.Items) == 0 {
		return "", nil, fmt.Errorf("no pod %s runs in namespace %s", selector, namespace)
	}
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return "", nil, err
	}
	to := c.Kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pods.Items[0].Name).SubResource("portforward").URL()
	stopped, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, to), []string{fmt.Sprintf(":%d", port)}, stopped, ready, io.Discard, io.Discard)
	if err != nil {
		return "", nil, err
	}
	failed := make(chan error, 1)
	go func() { failed <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-failed:
		return "", nil, fmt.Errorf("forward a port to %s: %w", pods.Items[0].Name, err)
	case <-ctx.Done():
		close(stopped)
		return "", nil, ctx.Err()
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		close(stopped)
		return "", nil, err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), func() { close(stopped) }, nil
}

// Ask is what the service answers to a GET of path.
func (c *Cluster) Ask(ctx context.Context, namespace, service, path string) (string, error) {
	u, err := url.Parse(path)
	if err != nil {
		return "", err
	}
	body, err := c.Kube.CoreV1().Services(namespace).ProxyGet("http", service, "80", u.Path, nil).DoRaw(ctx)
	if err != nil {
		return "", fmt.Errorf("ask service %s for %s: %w", service, path, err)
	}
	return string(body), nil
}
