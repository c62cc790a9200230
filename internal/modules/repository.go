package modules

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"golang.org/x/mod/module"

	"github.com/slipway-ci/slipway/internal/step"
)

// Memory that a repository takes: its objects are on disk, and those that are
// larger than largeObject are read from there piece by piece.
const (
	objectCache = 8 * cache.MiByte
	largeObject = 1 << 20
)

// repository is as much of a repository as modules of it need. Its folder has
// objects and no more: no URL, no login.
type repository struct {
	fetcher *Fetcher
	url     *url.URL

	mu      sync.Mutex // held while a module is taken from it
	folder  string     // "" until it is asked
	store   *filesystem.Storage
	session transport.UploadPackSession
	refs    *packp.AdvRefs
	history *time.Time // commits since then are there, if not all that they have; nil is none
}

func (r *repository) close() error {
	if r.folder == "" {
		return nil
	}
	return errors.Join(r.store.Close(), os.RemoveAll(r.folder))
}

// open asks which branches and tags there are.
func (r *repository) open(ctx context.Context) (err error) {
	if r.refs != nil {
		return nil
	}
	if r.folder == "" {
		if r.folder, err = os.MkdirTemp(r.fetcher.Direct.Folder, "repository-"); err != nil {
			return err
		}
		r.store = filesystem.NewStorageWithOptions(osfs.New(r.folder, osfs.WithBoundOS()), cache.NewObjectLRU(objectCache),
			filesystem.Options{ExclusiveAccess: true, KeepDescriptors: true, LargeObjectThreshold: largeObject})
		if err := r.store.Init(); err != nil {
			return err
		}
	}
	endpoint, err := transport.NewEndpoint(r.url.String())
	if err != nil {
		return step.BadInput(err)
	}
	var auth transport.AuthMethod
	if login, workspace := r.fetcher.gitLogin(r.url); workspace != "" {
		auth = &http.BasicAuth{Username: login.Name, Password: login.Password}
	}
	if r.session, err = http.NewClient(bounded(r.fetcher.Client)).NewUploadPackSession(endpoint, auth); err != nil {
		return err
	}
	defer r.fetcher.Direct.tell(r.url, nil)()
	refs, err := r.session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return r.explain(err)
	}
	r.refs = refs
	return nil
}

// commit is that of a version of the module in a folder: of its tag, or what a
// pseudo-version names.
func (r *repository) commit(ctx context.Context, folder, version string) (*object.Commit, error) {
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if module.IsPseudoVersion(version) {
		return r.pseudoVersion(ctx, version)
	}
	tag := path.Join(folder, strings.TrimSuffix(version, "+incompatible"))
	hash, known := r.refs.References["refs/tags/"+tag]
	if !known {
		return nil, step.BadInput(errAbsent{fmt.Errorf("it has no tag %s; push it, or require another version", tag)})
	}
	return r.shallow(ctx, hash)
}

// shallow is a commit with all of its files, by its own name or a tag's.
func (r *repository) shallow(ctx context.Context, hash plumbing.Hash) (*object.Commit, error) {
	if commit, err := r.peel(hash); err == nil && r.store.HasEncodedObject(commit.TreeHash) == nil {
		return commit, nil
	}
	if err := r.fetch(ctx, []plumbing.Hash{hash}, packp.DepthCommits(1), ""); err != nil {
		return nil, err
	}
	return r.peel(hash)
}

// peel is the commit that a tag names, or a tag of a tag.
func (r *repository) peel(hash plumbing.Hash) (*object.Commit, error) {
	for {
		tag, err := object.GetTag(r.store, hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return object.GetCommit(r.store, hash)
		}
		if err != nil {
			return nil, err
		}
		hash = tag.Target
	}
}

// pseudoVersion finds a commit by what a pseudo-version has of its name, and its
// time: https://go.dev/ref/mod#pseudo-versions. Like the go command it looks at
// what branches and tags lead to, and not at what a host has for pull requests.
func (r *repository) pseudoVersion(ctx context.Context, version string) (*object.Commit, error) {
	revision, err := module.PseudoVersionRev(version)
	if err != nil {
		return nil, step.BadInput(err)
	}
	when, err := module.PseudoVersionTime(version)
	if err != nil {
		return nil, step.BadInput(err)
	}
	for _, tip := range r.tips() {
		if strings.HasPrefix(tip.String(), revision) {
			return r.shallow(ctx, tip)
		}
	}
	// All, where the commits after it have clocks that went before.
	for _, since := range []time.Time{when, {}} {
		if err := r.open(ctx); err != nil {
			return nil, err
		}
		if err := r.fetchHistory(ctx, since); err != nil && since.IsZero() {
			return nil, err
		}
		commit, err := r.lookUp(revision, when)
		if err != nil {
			return nil, err
		}
		if commit != nil {
			return r.shallow(ctx, commit.Hash)
		}
	}
	return nil, step.BadInput(errAbsent{fmt.Errorf("no branch or tag has a commit %s of %s; push it, or require another version", revision, when.Format(time.RFC3339))})
}

// lookUp finds a commit among those that are there; nil if it is not.
func (r *repository) lookUp(revision string, when time.Time) (*object.Commit, error) {
	prefix, err := hex.DecodeString(revision)
	if err != nil {
		return nil, step.BadInput(fmt.Errorf("its version ends in %s, which is no commit of git's", revision))
	}
	similar, err := r.store.HashesWithPrefix(prefix)
	if err != nil {
		return nil, err
	}
	for _, hash := range similar {
		if commit, err := object.GetCommit(r.store, hash); err == nil && commit.Committer.When.Equal(when) {
			return commit, nil
		}
	}
	return nil, nil
}

// tips are the commits (and tags) that branches and tags name.
func (r *repository) tips() []plumbing.Hash {
	var tips []plumbing.Hash
	for name, hash := range r.refs.References {
		if strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/") {
			tips = append(tips, hash)
		}
	}
	slices.SortFunc(tips, func(a, b plumbing.Hash) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(tips)
}

// fetchHistory fetches the commits since a time, the zero time for all of them:
// alone, where the host gives commits without their files and single ones by
// their names afterwards.
func (r *repository) fetchHistory(ctx context.Context, since time.Time) error {
	can := r.refs.Capabilities
	if !can.Supports(capability.DeepenSince) {
		since = time.Time{}
	}
	if r.history != nil && !since.Before(*r.history) {
		return nil
	}
	var filter packp.Filter
	if can.Supports(capability.Filter) && can.Supports(capability.AllowReachableSHA1InWant) {
		filter = packp.FilterTreeDepth(0)
	}
	if err := r.fetch(ctx, r.tips(), packp.DepthSince(since), filter); err != nil {
		return err
	}
	r.history = &since
	return nil
}

// fetch adds commits as far back as depth says, and what they have but for what
// the filter leaves out.
func (r *repository) fetch(ctx context.Context, wants []plumbing.Hash, depth packp.Depth, filter packp.Filter) error {
	can := r.refs.Capabilities
	request := packp.NewUploadPackRequestFromCapabilities(can)
	request.Wants = wants
	uses := []capability.Capability{capability.NoProgress}
	if !depth.IsZero() && can.Supports(capability.Shallow) {
		request.Depth = depth
		uses = append(uses, capability.Shallow, capability.DeepenSince)
	}
	if filter != "" {
		request.Filter = filter
		uses = append(uses, capability.Filter)
	}
	for _, name := range uses {
		if can.Supports(name) {
			if err := request.Capabilities.Set(name); err != nil {
				return err
			}
		}
	}

	pack := &counted{}
	defer r.fetcher.Direct.tell(r.url, &pack.n)()
	response, err := r.session.UploadPack(ctx, request)
	if err != nil {
		r.refs = nil // it may be that they have changed
		return r.explain(err)
	}
	pack.Reader = response
	switch {
	case request.Capabilities.Supports(capability.Sideband64k):
		pack.Reader = sideband.NewDemuxer(sideband.Sideband64k, response)
	case request.Capabilities.Supports(capability.Sideband):
		pack.Reader = sideband.NewDemuxer(sideband.Sideband, response)
	}
	if err := errors.Join(packfile.UpdateObjectStorage(r.store, pack), response.Close()); err != nil {
		r.refs = nil
		return r.explain(err)
	}
	return nil
}

// counted counts what is read.
type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// explain says what to do about a host's answer. What it says itself may be a
// page of HTML.
func (r *repository) explain(err error) error {
	for refusal, what := range map[error]string{
		transport.ErrAuthenticationRequired: "401 Unauthorized",
		transport.ErrAuthorizationFailed:    "403 Forbidden",
		transport.ErrRepositoryNotFound:     "404 Not Found",
	} {
		if errors.Is(err, refusal) {
			return fmt.Errorf("%s: %w", what, r.fetcher.noRepository(r.url))
		}
	}
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return step.BadInput(errAbsent{errors.New("it is empty; push to it, or require another module")})
	}
	return passing(err)
}
