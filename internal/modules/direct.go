package modules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/slipway-ci/slipway/internal/git"
	"github.com/slipway-ci/slipway/internal/step"
)

// gitCredentials is the workspace that has [Direct.Credentials].
const gitCredentials = "git-credentials"

// Direct is how modules come from the repositories that they are in:
// https://go.dev/ref/mod#vcs.
type Direct struct {
	// Credentials are for git hosts; those of Netrc are as well.
	Credentials git.Credentials
	// Folder is where repositories are while they are needed. None stays there.
	Folder string
	// Log is told what takes long.
	Log func(format string, args ...any)
	// PlainHTTP has hosts asked by http in place of https, for tests: no param
	// and no source can say so.
	PlainHTTP bool
}

// telling is how often the log hears of what takes long.
const telling = 5 * time.Second

// tell logs how many bytes of an answer are there, until it is stopped. received
// may be nil.
func (d *Direct) tell(asked *url.URL, received *atomic.Int64) (stop func()) {
	if received == nil {
		received = new(atomic.Int64)
	}
	started := time.Now()
	return step.Every(telling, func() {
		d.Log("private modules: %s: %s in %.0f s", asked, units.BytesSize(float64(received.Load())), time.Since(started).Seconds())
	})
}

// repositories are those that a fetch needs, each fetched once.
type repositories struct {
	fetcher *Fetcher

	mu     sync.Mutex
	places map[string]*lookup     // by module path
	clones map[string]*repository // by URL
}

type lookup struct {
	mu    sync.Mutex
	place *place // nil until it is found
}

func newRepositories(f *Fetcher) *repositories {
	return &repositories{fetcher: f, places: map[string]*lookup{}, clones: map[string]*repository{}}
}

func (r *repositories) close() error {
	var errs []error
	for _, clone := range r.clones {
		errs = append(errs, clone.close())
	}
	return errors.Join(errs...)
}

// get makes a file of a module from its repository.
func (r *repositories) get(ctx context.Context, w wanted) (int64, error) {
	place, err := r.place(ctx, w.module.Path)
	if err != nil {
		return 0, err
	}
	clone := r.clone(place)
	clone.mu.Lock()
	defer clone.mu.Unlock()
	n, err := clone.get(ctx, place, w)
	if err != nil {
		return 0, fmt.Errorf("repository %s: %w", place.url, err)
	}
	return n, nil
}

func (r *repositories) place(ctx context.Context, modulePath string) (*place, error) {
	r.mu.Lock()
	found := r.places[modulePath]
	if found == nil {
		found = &lookup{}
		r.places[modulePath] = found
	}
	r.mu.Unlock()
	found.mu.Lock()
	defer found.mu.Unlock()
	if found.place == nil {
		place, err := r.fetcher.find(ctx, modulePath)
		if err != nil {
			return nil, err
		}
		found.place = &place
	}
	return found.place, nil
}

func (r *repositories) clone(p *place) *repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	address := p.url.String()
	if r.clones[address] == nil {
		r.clones[address] = &repository{fetcher: r.fetcher, url: p.url}
	}
	return r.clones[address]
}

func (r *repository) get(ctx context.Context, p *place, w wanted) (int64, error) {
	release, err := r.release(ctx, p, w.module.Version)
	if err != nil {
		return 0, err
	}
	n, err := w.keep(func(file *os.File) error {
		switch w.extension {
		case ".info":
			return json.NewEncoder(file).Encode(info{w.module.Version.Version, release.commit.Committer.When.UTC()})
		case ".mod":
			content, err := release.goMod(w.limit)
			if err != nil {
				return err
			}
			_, err = file.Write(content)
			return err
		default:
			files, err := release.files()
			if err != nil {
				return err
			}
			if _, err := zip.CheckFiles(files); err != nil {
				return step.BadInput(err)
			}
			return zip.Create(file, w.module.Version, files)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", release.commit.Hash, err)
	}
	return n, nil
}

// release is a version of a module in its repository.
type release struct {
	module module.Version
	store  storer.EncodedObjectStorer
	commit *object.Commit
	tree   *object.Tree // the repository's root
	folder string       // of the module, "" for the root
}

// release finds a version by https://go.dev/ref/mod#vcs-version, and its folder
// by https://go.dev/ref/mod#vcs-dir; cmd/go/internal/modfetch/coderepo.go has
// both. What else is said there of what may be a version has been looked at by
// who wrote go.sum: the hashes there decide.
func (r *repository) release(ctx context.Context, p *place, m module.Version) (*release, error) {
	prefix, major, ok := module.SplitPathVersion(m.Path)
	if !ok {
		return nil, step.BadInput(errors.New("its path is no module's"))
	}
	if p.prefix == m.Path {
		prefix = m.Path
	}
	within, ok := strings.CutPrefix(prefix, p.prefix)
	if !ok {
		return nil, step.BadInput(fmt.Errorf("what begins with %s is not in it; mend its go-import tag", p.prefix))
	}
	folder := path.Join(strings.Trim(within, "/"), p.folder)
	commit, err := r.commit(ctx, folder, m.Version)
	if err != nil {
		return nil, err
	}
	tree, err := commit.Tree()
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit.Hash, err)
	}
	found := &release{m, r.store, commit, tree, folder}
	if major != "" && p.prefix != m.Path && !strings.HasPrefix(major, ".") {
		inFolder := path.Join(folder, major[1:])
		if _, err := tree.FindEntry(path.Join(inFolder, "go.mod")); err == nil {
			found.folder = inFolder
			return found, nil
		}
	}
	if folder != "" {
		if _, err := tree.FindEntry(path.Join(folder, "go.mod")); err != nil {
			return nil, step.BadInput(errAbsent{fmt.Errorf("commit %s has no %s/go.mod: it has no such module", commit.Hash, folder)})
		}
	}
	return found, nil
}

// goMod is its file go.mod, or where it has none what Go makes up.
func (r *release) goMod(limit int64) ([]byte, error) {
	content, err := r.read("go.mod", limit)
	if errors.Is(err, object.ErrFileNotFound) {
		return fmt.Appendf(nil, "module %s\n", modfile.AutoQuote(r.module.Path)), nil
	}
	return content, err
}
