package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// tree is a folder for [fsutil.NewFilterFS]. It differs from [fsutil.NewFS] in
// three ways: a walk of a path begins with the folders above it, without which
// patterns that match these would be held against it differently; extended
// attributes are not read, which takes longer than all the rest; and a file that
// vanishes is an error, where fsutil takes the rest of its folder for gone.
type tree struct {
	dir string
	saw func(name string) // is told of each path, where there is one
}

// Walk implements [fsutil.FS].
func (t tree) Walk(ctx context.Context, sub string, fn fs.WalkDirFunc) error {
	fn = t.telling(fn)
	at := path.Clean(sub)
	if !filepath.IsLocal(at) {
		return nil
	}
	for _, folder := range above(at) {
		info, err := os.Lstat(filepath.Join(t.dir, folder))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(folder, &entry{DirEntry: fs.FileInfoToDirEntry(info), tree: t, path: folder}, nil); err != nil {
			return ended(err)
		}
	}
	root := filepath.Join(t.dir, at)
	if at != "." {
		if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return filepath.WalkDir(root, func(file string, found fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(file, t.dir), "/")
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case name == "":
			return err
		case found == nil:
			return fn(name, nil, lasting(err))
		}
		return fn(name, &entry{DirEntry: found, tree: t, path: name}, lasting(err))
	})
}

func (t tree) telling(fn fs.WalkDirFunc) fs.WalkDirFunc {
	if t.saw == nil {
		return fn
	}
	return func(name string, found fs.DirEntry, err error) error {
		t.saw(name)
		return fn(name, found, err)
	}
}

// Open implements [fsutil.FS].
func (t tree) Open(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(t.dir, name))
}

// entry is a file, folder or link of a tree. It is read at the first question.
type entry struct {
	fs.DirEntry
	tree tree
	path string
	stat *types.Stat
}

// Info implements [fs.DirEntry]. The filter wants a [types.Stat] behind it.
func (e *entry) Info() (fs.FileInfo, error) {
	if e.stat == nil {
		info, err := e.DirEntry.Info()
		if err != nil {
			return nil, lasting(err)
		}
		e.stat = &types.Stat{Path: e.path, Mode: uint32(info.Mode())}
		if info.Mode().Type() == fs.ModeSymlink {
			if e.stat.Linkname, err = os.Readlink(filepath.Join(e.tree.dir, e.path)); err != nil {
				return nil, lasting(err)
			}
		}
	}
	return &fsutil.StatInfo{Stat: e.stat}, nil
}

// statOf is what [entry.Info] has read of an entry, with or without a filter
// between.
func statOf(found fs.DirEntry) (*types.Stat, error) {
	if passed, ok := found.(*fsutil.DirEntryInfo); ok {
		return passed.Stat, nil
	}
	info, err := found.Info()
	if err != nil {
		return nil, err
	}
	return info.Sys().(*types.Stat), nil
}

// lasting is err, but none of those for which fsutil skips files.
func lasting(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%v; it was there a moment ago: nothing may change the source meanwhile", err) //nolint:errorlint // see above
	}
	return err
}

// chain is folders for each name on the way to a path, and a file there.
type chain struct{}

// Walk implements [fsutil.FS].
func (chain) Walk(_ context.Context, name string, fn fs.WalkDirFunc) error {
	for _, folder := range above(name) {
		if err := fn(folder, imagined(folder, fs.ModeDir), nil); err != nil {
			return ended(err)
		}
	}
	return ended(fn(name, imagined(name, 0), nil))
}

// Open implements [fsutil.FS].
func (chain) Open(name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func imagined(name string, mode fs.FileMode) fs.DirEntry {
	return &fsutil.DirEntryInfo{Stat: &types.Stat{Path: name, Mode: uint32(mode)}}
}

// above are the folders on the way to a path.
func above(name string) []string {
	var folders []string
	for i, c := range name {
		if c == '/' {
			folders = append(folders, name[:i])
		}
	}
	return folders
}

// ended returns the error of a walk that err has ended.
func ended(err error) error {
	if errors.Is(err, fs.SkipDir) || errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}
