package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/internal/buildcontext"
)

// Context is what a Dockerfile takes of a build context.
type Context struct {
	Files *buildcontext.Context
	// Paths are those that instructions name, relative to the root and clean,
	// some of them patterns as [path.Match] has them. What lies in a folder
	// that they name is taken along.
	Paths []string

	root *os.Root
}

// List is an input for each file, folder and link: by its path, mode and
// content, and not by its times and owner, of which git knows nothing. Of .git
// counts what two clones of a commit have in common. Where a symbolic link makes
// a path lead elsewhere in the context, all of that is listed.
func (c Context) List(ctx context.Context) (List, error) {
	var err error
	if c.root, err = os.OpenRoot(c.Files.Dir()); err != nil {
		return nil, err
	}
	defer c.root.Close()
	all, err := c.walk(ctx)
	if err != nil {
		return nil, err
	}
	taken := c.taken(all)
	list := make(List, len(taken))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(2 * runtime.GOMAXPROCS(0)) // some wait for the disk
	for i, e := range taken {
		list[i] = Input{Kind: File, Name: e.Path, Value: e.Mode.String() + " " + e.Link}
		if !e.Mode.IsRegular() {
			continue
		}
		work.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			sum, err := c.hash(e.Path)
			list[i].Value = e.Mode.String() + " " + sum
			return err
		})
	}
	return list, work.Wait()
}

func (c Context) walk(ctx context.Context) ([]buildcontext.Entry, error) {
	var all []buildcontext.Entry
	whole := slices.ContainsFunc(c.Paths, inGit)
	err := c.Files.Walk(ctx, ".", func(e buildcontext.Entry) error {
		switch {
		case whole || !c.ofThisClone(e.Path):
			all = append(all, e)
		case e.Mode.IsDir():
			return fs.SkipDir
		}
		return nil
	})
	return all, err
}

// ofThisClone says whether a file is of a git repository, or of a submodule's,
// and different in each clone of the same commit. The commit, branches and tags
// are in files that count, and objects are what these name. See
// gitrepository-layout(5).
func (c Context) ofThisClone(name string) bool {
	folder, base := path.Split(name)
	switch base {
	case "index", "logs", "objects", "FETCH_HEAD", "ORIG_HEAD":
		return folder == ".git/" || strings.HasPrefix(folder, ".git/modules/") && c.isRepository(folder)
	}
	return false
}

// isRepository tells a submodule's repository from a folder on the way to one,
// whose name may have slashes, and from one of branches.
func (c Context) isRepository(folder string) bool {
	head, err := c.root.Lstat(folder + "HEAD")
	if err != nil || head.IsDir() {
		return false
	}
	refs, err := c.root.Lstat(folder + "refs")
	return err == nil && refs.IsDir()
}

func inGit(path string) bool { return strings.HasPrefix(path, ".git/") }

// taken are the entries that c's paths take along.
func (c Context) taken(all []buildcontext.Entry) []buildcontext.Entry {
	for _, named := range c.Paths {
		for p := named; p != "."; p = path.Dir(p) {
			// Whether or not it is left out, it leads where it leads.
			if info, err := c.root.Lstat(p); err == nil && info.Mode().Type() == fs.ModeSymlink {
				return all
			}
		}
	}
	var taken []buildcontext.Entry
	for _, e := range all {
		at, found := c.names(e.Path)
		if !found {
			continue
		}
		if at == e.Path && e.Mode.Type() == fs.ModeSymlink {
			return all
		}
		taken = append(taken, e)
	}
	return taken
}

// names finds a folder of name, or name itself, that one of the paths matches.
// kaniko holds patterns against the root too, as ".".
func (c Context) names(name string) (at string, found bool) {
	for _, pattern := range c.Paths {
		for at := name; ; at = path.Dir(at) {
			matches, err := path.Match(pattern, at)
			if matches || err != nil || at == pattern {
				return at, true
			}
			if at == "." {
				break
			}
		}
	}
	return "", false
}

// buffers are for hashing: a new one for each file would be most of the work.
var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

func (c Context) hash(name string) (string, error) {
	file, err := c.root.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	buffer := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buffer)
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{file}, buffer[:]); err != nil { // as a file it would bring a buffer of its own
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
