package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/step"
)

// Config is what the Task tells the step. The names are the catalog's, in the
// writing of Slipway's own steps.
type Config struct {
	URL            string `env:"PARAM_URL, required"`
	Revision       string `env:"PARAM_REVISION"` // the remote's HEAD if empty
	Refspec        string `env:"PARAM_REFSPEC"`  // fetched instead of the revision
	Submodules     bool   `env:"PARAM_SUBMODULES"`
	Depth          int    `env:"PARAM_DEPTH"` // commits; 0 is all
	SSLVerify      bool   `env:"PARAM_SSL_VERIFY"`
	Subdirectory   string `env:"PARAM_SUBDIRECTORY"` // of the output
	DeleteExisting bool   `env:"PARAM_DELETE_EXISTING"`
	HTTPProxy      string `env:"PARAM_HTTP_PROXY"`
	HTTPSProxy     string `env:"PARAM_HTTPS_PROXY"`
	NoProxy        string `env:"PARAM_NO_PROXY"`
	Verbose        bool   `env:"PARAM_VERBOSE"`
	UserHome       string `env:"PARAM_USER_HOME"`

	Output        string `env:"WORKSPACE_OUTPUT_PATH, required"`
	BasicAuth     bool   `env:"WORKSPACE_BASIC_AUTH_BOUND"`
	BasicAuthPath string `env:"WORKSPACE_BASIC_AUTH_PATH"`

	// What the stand-in refuses.
	CrtFileName  string `env:"PARAM_CRT_FILE_NAME"`
	Sparse       string `env:"PARAM_SPARSE_CHECKOUT_DIRECTORIES"`
	SSH          bool   `env:"WORKSPACE_SSH_DIRECTORY_BOUND"`
	SSLCertified bool   `env:"WORKSPACE_SSL_CA_DIRECTORY_BOUND"`

	CommitPath        string `env:"RESULT_COMMIT_PATH"`
	URLPath           string `env:"RESULT_URL_PATH"`
	CommitterDatePath string `env:"RESULT_COMMITTER_DATE_PATH"`
}

// defaultCrtFileName is the catalog's default, which means nothing without the
// workspace ssl-ca-directory.
const defaultCrtFileName = "ca-bundle.crt"

func run(ctx context.Context, env envconfig.Lookuper, log io.Writer) error {
	var config Config
	if err := step.Load(ctx, &config, env); err != nil {
		return err
	}
	if err := config.check(); err != nil {
		return step.BadInput(err)
	}
	dir := filepath.Join(config.Output, config.Subdirectory)
	if err := prepare(config); err != nil {
		return fmt.Errorf("prepare %s: %w", dir, err)
	}
	if config.BasicAuth {
		var err error
		if config.UserHome, err = login(config.BasicAuthPath); err != nil {
			return step.BadInput(fmt.Errorf("workspace basic-auth: %w", err))
		}
		defer os.RemoveAll(config.UserHome)
	}
	repository := &repository{dir: dir, config: config, log: log}
	if err := repository.clone(ctx); err != nil {
		return err
	}
	return repository.results(ctx)
}

func (c Config) check() error {
	for name, set := range map[string]bool{
		"param sparseCheckoutDirectories": c.Sparse != "",
		"param crtFileName":               c.CrtFileName != "" && c.CrtFileName != defaultCrtFileName,
		"workspace ssh-directory":         c.SSH,
		"workspace ssl-ca-directory":      c.SSLCertified,
	} {
		if set {
			return fmt.Errorf("%s is not supported by this stand-in: leave it out, or install the catalog's git-clone", name)
		}
	}
	for name, value := range map[string]string{"url": c.URL, "revision": c.Revision, "refspec": c.Refspec} {
		if strings.HasPrefix(value, "-") {
			return fmt.Errorf("param %s is %q: it must not start with a dash", name, value)
		}
	}
	if c.Depth < 0 {
		return fmt.Errorf("param depth is %d: give the number of commits, or 0 for all", c.Depth)
	}
	if c.Subdirectory != "" && !filepath.IsLocal(c.Subdirectory) {
		return fmt.Errorf("param subdirectory is %q: it must lie inside the workspace output", c.Subdirectory)
	}
	return nil
}

// login makes a home of the files that git finds logins with. The catalog's git-clone
// copies them to userHome, a folder that only its image has.
func login(dir string) (home string, err error) {
	if home, err = os.MkdirTemp("", "home-"); err != nil {
		return "", err
	}
	for _, name := range []string{".git-credentials", ".gitconfig"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(home, name), content, 0o400)
		}
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(home))
		}
	}
	return home, nil
}

// prepare makes the folder to clone into, and empties it where the Task is asked to.
func prepare(config Config) error {
	root, err := os.OpenRoot(config.Output)
	if err != nil {
		return err
	}
	defer root.Close()
	subdirectory := filepath.Clean(config.Subdirectory)
	if err := root.MkdirAll(subdirectory, 0o755); err != nil {
		return err
	}
	if !config.DeleteExisting {
		return nil
	}
	entries, err := fs.ReadDir(root.FS(), filepath.ToSlash(subdirectory))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := root.RemoveAll(filepath.Join(subdirectory, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

type repository struct {
	dir    string
	config Config
	log    io.Writer
}

func (r *repository) clone(ctx context.Context) error {
	if _, err := r.git(ctx, "init", "--quiet"); err != nil {
		return err
	}
	what := r.config.Revision
	if what == "" {
		what = "HEAD"
	}
	fetch := []string{"fetch", "--force", "--update-head-ok"}
	if r.config.Depth > 0 {
		fetch = append(fetch, "--depth="+strconv.Itoa(r.config.Depth))
	}
	checkout := "FETCH_HEAD"
	if r.config.Refspec != "" {
		fetch = append(fetch, r.config.URL)
		fetch = append(fetch, strings.Fields(r.config.Refspec)...)
		if r.config.Revision != "" {
			checkout = r.config.Revision
		}
	} else {
		fetch = append(fetch, r.config.URL, what)
	}
	if _, err := r.git(ctx, fetch...); err != nil {
		return fmt.Errorf("fetch %s of %s: %w", what, redact(r.config.URL), err)
	}
	if _, err := r.git(ctx, "checkout", "--quiet", "--force", "--detach", checkout); err != nil {
		return fmt.Errorf("check out %s of %s: %w", what, redact(r.config.URL), err)
	}
	if r.config.Submodules {
		update := []string{"submodule", "update", "--init", "--recursive", "--force"}
		if r.config.Depth > 0 {
			update = append(update, "--depth="+strconv.Itoa(r.config.Depth))
		}
		if _, err := r.git(ctx, update...); err != nil {
			return fmt.Errorf("fetch the submodules of %s: %w", redact(r.config.URL), err)
		}
	}
	return nil
}

func (r *repository) results(ctx context.Context) error {
	output, err := r.git(ctx, "log", "-1", "--format=%H %ct")
	if err != nil {
		return err
	}
	commit, date, _ := strings.Cut(strings.TrimSpace(output), " ")
	fmt.Fprintf(r.log, "%s is at %s\n", redact(r.config.URL), commit)
	return errors.Join(
		step.WriteResult(r.config.CommitPath, commit),
		step.WriteResult(r.config.CommitterDatePath, date),
		step.WriteResult(r.config.URLPath, r.config.URL),
	)
}

// git runs one git command in the repository and returns what it printed.
func (r *repository) git(ctx context.Context, args ...string) (string, error) {
	if r.config.Verbose {
		fmt.Fprintln(r.log, "+ git", redact(strings.Join(args, " ")))
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = r.env()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second // a step ends within 2 s
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	cmd.Stderr = io.MultiWriter(r.log, &stderr)
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", fmt.Errorf("git %s: stopped: %w", args[0], context.Cause(ctx))
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, lines[len(lines)-1])
	}
	return stdout.String(), nil
}

func (r *repository) env() []string {
	env := append(os.Environ(),
		"GIT_TERMINAL_PROMPT=0",
		// The directory is the kubelet's.
		"GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=advice.detachedHead", "GIT_CONFIG_VALUE_1=false",
	)
	for name, value := range map[string]string{
		"HOME":        r.config.UserHome,
		"HTTP_PROXY":  r.config.HTTPProxy,
		"HTTPS_PROXY": r.config.HTTPSProxy,
		"NO_PROXY":    r.config.NoProxy,
	} {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	if !r.config.SSLVerify {
		env = append(env, "GIT_SSL_NO_VERIFY=1")
	}
	return env
}

// redact hides the password of each URL among the words of s.
func redact(s string) string {
	words := strings.Split(s, " ")
	for i, word := range words {
		if u, err := url.Parse(word); err == nil && u.User != nil {
			words[i] = u.Redacted()
		}
	}
	return strings.Join(words, " ")
}
