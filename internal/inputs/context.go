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

	"github.com/moby/patternmatcher"
	"golang.org/x/sync/errgroup"
)

// Context is what a Dockerfile takes of a build context.
type Context struct {
	Root   *os.Root
	Ignore *patternmatcher.PatternMatcher // what is left out; nil for nothing
	// Paths are those that instructions name, relative to the root and clean,
	// some of them patterns as [path.Match] has them. What lies in a folder
	// that they name is taken along.
	Paths []string
}

// entry is a file, folder or link of the context.
type entry struct {
	path string
	mode fs.FileMode
	link string // where a symbolic link leads
}

// List is an input for each file, folder and link: by its path, mode and
// content, and not by its times and owner, of which git knows nothing. Of .git
// counts what two clones of a commit have in common. Where a symbolic link makes a path lead elsewhere in the context, all of that is
// listed.
func (c Context) List(ctx context.Context) (List, error) {
	all, err := c.walk(ctx)
	if err != nil {
		return nil, err
	}
	taken := c.taken(all)
	list := make(List, len(taken))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(2 * runtime.GOMAXPROCS(0)) // some wait for the disk
	for i, e := range taken {
		list[i] = Input{Kind: File, Name: e.path, Value: e.mode.String() + " " + e.link}
		if !e.mode.IsRegular() {
			continue
		}
		work.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			sum, err := c.hash(e.path)
			list[i].Value = e.mode.String() + " " + sum
			return err
		})
	}
	return list, work.Wait()
}

func (c Context) walk(ctx context.Context) ([]entry, error) {
	var all []entry
	ignored := map[string]patternmatcher.MatchInfo{} // by folder
	err := fs.WalkDir(c.Root.FS(), ".", func(name string, found fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == "." {
			return err
		}
		if ofThisClone(name) && !slices.ContainsFunc(c.Paths, inGit) {
			if found.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if c.Ignore != nil {
			out, match, err := c.Ignore.MatchesUsingParentResults(name, ignored[path.Dir(name)])
			if err != nil {
				return err
			}
			switch {
			case found.IsDir() && out && !c.Ignore.Exclusions():
				return fs.SkipDir
			case found.IsDir():
				ignored[name] = match // it may be there for a file that is an exception
			case out:
				return nil
			}
		}
		info, err := found.Info()
		if err != nil {
			return err
		}
		e := entry{path: name, mode: info.Mode()}
		if e.mode.Type() == fs.ModeSymlink {
			if e.link, err = c.Root.Readlink(name); err != nil {
				return err
			}
		}
		all = append(all, e)
		return nil
	})
	return all, err
}

// ofThisClone says whether a file is of a git repository, and different in each
// clone of the same commit. The commit, branches and tags are in files that
// count, and objects are what these name. See gitrepository-layout(5).
func ofThisClone(name string) bool {
	switch name {
	case ".git/index", ".git/logs", ".git/objects", ".git/FETCH_HEAD", ".git/ORIG_HEAD":
		return true
	}
	return false
}

func inGit(path string) bool { return strings.HasPrefix(path, ".git/") }

// taken are the entries that c's paths take along.
func (c Context) taken(all []entry) []entry {
	for _, named := range c.Paths {
		for p := named; p != "."; p = path.Dir(p) {
			// Whether or not it is left out, it leads where it leads.
			if info, err := c.Root.Lstat(p); err == nil && info.Mode().Type() == fs.ModeSymlink {
				return all
			}
		}
	}
	var taken []entry
	for _, e := range all {
		at, found := c.names(e.path)
		if !found {
			continue
		}
		if at == e.path && e.mode.Type() == fs.ModeSymlink {
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
	file, err := c.Root.Open(name)
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
