// Package fetch is the step that fetches a commit of a git repository. Nothing
// of its credentials is left in what it fetches.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/sethvargo/go-envconfig"
	"k8s.io/apimachinery/pkg/util/wait"

	slipwaygit "github.com/slipway-ci/slipway/internal/git"
	"github.com/slipway-ci/slipway/internal/step"
)

// Config is what the Task tells the step.
type Config struct {
	URL        string `env:"PARAM_URL, required"`
	Revision   string `env:"PARAM_REVISION"` // the remote's HEAD if empty
	Depth      int    `env:"PARAM_DEPTH"`    // commits; 0 is all, with all tags
	Submodules bool   `env:"PARAM_SUBMODULES"`

	Output    string `env:"WORKSPACE_OUTPUT_PATH, required"`
	BasicAuth string `env:"WORKSPACE_BASIC_AUTH_PATH"` // "" where it is not bound

	CommitPath string `env:"RESULT_COMMIT_PATH, required"`
}

// origin is what git calls the remote that a clone is from, fetched what keeps
// the commit in it.
const (
	origin  = "origin"
	fetched = plumbing.ReferenceName("refs/remotes/origin/fetched")
)

// retries of what a network may get wrong: after 1 s, 3 s and 9 s.
var retries = wait.Backoff{Duration: time.Second, Factor: 3, Steps: 4}

// Run fetches the commit, and writes its full name as the result. The error is
// bad input ([step.BadInput]) where a param or the remote's answer to one is the
// cause.
func Run(ctx context.Context, env envconfig.Lookuper, log io.Writer) error {
	var c Config
	if err := step.Load(ctx, &c, env); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return step.BadInput(err)
	}
	known, err := slipwaygit.ReadCredentials("basic-auth", c.BasicAuth)
	if err != nil {
		return step.BadInput(err)
	}
	if err := empty(c.Output); err != nil {
		return fmt.Errorf("empty the workspace output: %w", err)
	}
	f := &fetch{config: c, known: known, log: log}
	commit, err := f.checkOut(ctx)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", c.URL, err)
	}
	fmt.Fprintf(log, "fetched %s at %s\n", c.URL, commit)
	return step.WriteResult(c.CommitPath, commit.String())
}

func (c Config) check() error {
	if err := checkURL(c.URL); err != nil {
		return fmt.Errorf("param url: %w", err)
	}
	if c.Depth < 0 {
		return fmt.Errorf("param depth is %d: give the number of commits, or 0 for all", c.Depth)
	}
	return nil
}

// checkURL refuses what is not fetched, and what would leave a password in the
// clone. Its errors have no password.
func checkURL(address string) error {
	parsed, err := url.Parse(address)
	if err != nil {
		return errors.New("it is no URL: give one such as https://git.example.com/group/app.git")
	}
	if _, has := parsed.User.Password(); has {
		return fmt.Errorf("%s has a password, which would be in the clone for every RUN to read: put it in the workspace basic-auth (git-credentials of the pipeline)", parsed.Redacted())
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return fmt.Errorf("%s is not of http or https, which is all that this fetches by: the pipeline slipway-fetch-build-deploy has the catalog's git-clone, which has ssh", parsed.Redacted())
	}
	return nil
}

// empty removes what is in dir: a clone is made where nothing is.
func empty(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := root.RemoveAll(entry.Name()); err != nil {
			return err
		}
	}
	return nil
}

type fetch struct {
	config Config
	known  slipwaygit.Credentials
	log    io.Writer
}

func (f *fetch) checkOut(ctx context.Context) (plumbing.Hash, error) {
	repository, err := git.PlainInit(f.config.Output, false)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	remote, err := repository.CreateRemote(&config.RemoteConfig{Name: origin, URLs: []string{f.config.URL}})
	if err != nil {
		return plumbing.ZeroHash, err
	}
	commit, err := f.fetchRevision(ctx, repository, remote)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	tree, err := repository.Worktree()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if err := tree.Checkout(&git.CheckoutOptions{Hash: commit, Force: true}); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("check out %s: %w", commit, err)
	}
	if f.config.Submodules {
		return commit, f.updateSubmodules(ctx, tree)
	}
	return commit, nil
}

// fetchRevision fetches what the revision names, and returns the commit.
func (f *fetch) fetchRevision(ctx context.Context, repository *git.Repository, remote *git.Remote) (plumbing.Hash, error) {
	if plumbing.IsHash(f.config.Revision) {
		commit := plumbing.NewHash(f.config.Revision)
		err := f.fetchSpec(ctx, remote, config.RefSpec(commit.String()+":"+fetched.String()), f.config.Depth)
		if errors.Is(err, git.ErrExactSHA1NotSupported) {
			fmt.Fprintln(f.log, "the server gives no commit by its name: fetching all branches")
			err = f.fetchSpec(ctx, remote, "+refs/heads/*:refs/remotes/"+origin+"/*", 0)
		}
		if err != nil {
			return commit, err
		}
		if _, err := repository.CommitObject(commit); err != nil {
			return commit, step.BadInput(fmt.Errorf("commit %s (param revision): no branch of the remote has it", commit))
		}
		return commit, nil
	}
	name, err := f.find(ctx, remote)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if err := f.fetchSpec(ctx, remote, config.RefSpec("+"+name.String()+":"+fetched.String()), f.config.Depth); err != nil {
		return plumbing.ZeroHash, err
	}
	commit, err := repository.ResolveRevision(plumbing.Revision(fetched.String() + "^{commit}")) // of an annotated tag too
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("%s: %w", name, err)
	}
	return *commit, nil
}

// find is the reference of the remote that the revision means, by git's rules:
// https://git-scm.com/docs/gitrevisions.
func (f *fetch) find(ctx context.Context, remote *git.Remote) (plumbing.ReferenceName, error) {
	if f.config.Revision == "" {
		return plumbing.HEAD, nil
	}
	var refs []*plumbing.Reference
	if err := f.try(ctx, func() (err error) {
		refs, err = remote.ListContext(ctx, &git.ListOptions{Auth: f.login(f.config.URL)})
		return err
	}); err != nil {
		return "", err
	}
	for _, rule := range plumbing.RefRevParseRules {
		name := plumbing.ReferenceName(fmt.Sprintf(rule, f.config.Revision))
		if slices.ContainsFunc(refs, func(ref *plumbing.Reference) bool { return ref.Name() == name }) {
			return name, nil
		}
	}
	return "", step.BadInput(fmt.Errorf("the remote has no branch or tag %q (param revision): a commit is given by all of its 40 digits", f.config.Revision))
}

func (f *fetch) fetchSpec(ctx context.Context, remote *git.Remote, spec config.RefSpec, depth int) (err error) {
	progress := newProgress(f.log)
	defer func() { err = errors.Join(err, progress.flush()) }()
	options := git.FetchOptions{
		RefSpecs: []config.RefSpec{spec},
		Depth:    depth,
		Auth:     f.login(f.config.URL),
		Tags:     git.NoTags,
		Progress: progress,
	}
	if depth == 0 {
		options.Tags = git.AllTags
	}
	return f.try(ctx, func() error {
		err := remote.FetchContext(ctx, &options)
		if errors.Is(err, git.NoErrAlreadyUpToDate) {
			return nil
		}
		return err
	})
}

// login is that of the URL's own host, nil where there is none.
func (f *fetch) login(address string) transport.AuthMethod {
	wanted, err := url.Parse(address)
	if err != nil {
		return nil
	}
	login := f.known.Of(wanted)
	if login == nil {
		return nil
	}
	password, _ := login.Password()
	return &http.BasicAuth{Username: login.Username(), Password: password}
}

// try repeats what a network may get wrong, and not what the server has decided.
func (f *fetch) try(ctx context.Context, do func() error) error {
	var last error
	if err := wait.ExponentialBackoffWithContext(ctx, retries, func(context.Context) (done bool, err error) {
		if last = do(); decided(last) {
			return true, last
		}
		fmt.Fprintf(f.log, "%v; trying again\n", last)
		return false, nil
	}); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return explain(last, f.config.BasicAuth != "")
}

// decided reports whether another try would give the same.
func decided(err error) bool {
	return err == nil || slices.ContainsFunc([]error{
		transport.ErrAuthenticationRequired, transport.ErrAuthorizationFailed,
		transport.ErrRepositoryNotFound, transport.ErrEmptyRemoteRepository,
		git.ErrExactSHA1NotSupported,
	}, func(known error) bool { return errors.Is(err, known) }) || errors.As(err, new(git.NoMatchingRefSpecError))
}

// explain says what to do about what the server has decided.
func explain(err error, loggedIn bool) error {
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed),
		errors.Is(err, transport.ErrRepositoryNotFound):
		login := "a private one needs the workspace basic-auth (git-credentials of the pipeline) with a .git-credentials for it"
		if loggedIn {
			login = "or the .git-credentials of the workspace basic-auth (git-credentials of the pipeline) has no login for it that may read it"
		}
		return step.BadInput(fmt.Errorf("%w: there is no such repository (param url, repo-url of the pipeline), or %s", err, login))
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return step.BadInput(fmt.Errorf("%w: push a commit first", err))
	case errors.As(err, new(git.NoMatchingRefSpecError)), err != nil && strings.Contains(err.Error(), "not our ref"):
		return step.BadInput(fmt.Errorf("%w: the remote has no such revision (param revision)", err))
	}
	return err
}
