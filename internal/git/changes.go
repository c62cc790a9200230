package git

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Changed reports whether "git status --porcelain ." has anything to say of the
// folder: a file that is not as the commit has it, or one that the commit has
// not and .gitignore does not name. Filters of .gitattributes are not run: a
// file that has one counts as changed once its time is not the index's, as in a
// clone that was copied.
func (r *Repository) Changed() (bool, error) {
	tracked, err := r.store.Index()
	if err != nil {
		return false, fmt.Errorf("read the clone's index: %w", err)
	}
	entries := map[string]*index.Entry{}
	for _, entry := range tracked.Entries {
		if r.folder == "" || strings.HasPrefix(entry.Name, r.folder+"/") {
			entries[entry.Name] = entry
		}
	}
	staged, err := r.staged(entries)
	if err != nil || staged {
		return staged, err
	}
	for _, entry := range entries {
		if changed, err := r.changed(entry); err != nil || changed {
			return changed, err
		}
	}
	return r.untracked(entries)
}

// staged reports whether the index is not what the commit has.
func (r *Repository) staged(entries map[string]*index.Entry) (bool, error) {
	tree, err := r.folderTree()
	if err != nil {
		return false, err
	}
	walker := object.NewTreeWalker(tree, true, nil)
	defer walker.Close()
	same := 0
	for {
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			return same != len(entries), nil
		}
		if err != nil {
			return false, fmt.Errorf("read the commit's tree: %w", err)
		}
		if entry.Mode == filemode.Dir {
			continue
		}
		other := entries[path.Join(r.folder, name)]
		if other == nil || other.Hash != entry.Hash || other.Mode != entry.Mode || other.Stage != 0 { // not in the midst of a merge
			return true, nil
		}
		same++
	}
}

// changed reports whether a file is not what the index has.
func (r *Repository) changed(entry *index.Entry) (bool, error) {
	if entry.SkipWorktree || entry.Mode == filemode.Submodule {
		return false, nil
	}
	info, err := r.tree.Lstat(entry.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if entry.Mode == filemode.Symlink {
		target, err := r.tree.Readlink(entry.Name)
		return err != nil || plumbing.ComputeHash(plumbing.BlobObject, []byte(target)) != entry.Hash, nil
	}
	executable := info.Mode().Perm()&0o100 != 0
	if !info.Mode().IsRegular() || executable != (entry.Mode == filemode.Executable) || uint32(info.Size()) != entry.Size { //nolint:gosec // the index has the size modulo 2^32
		return true, nil
	}
	if info.ModTime().Equal(entry.ModifiedAt) {
		return false, nil
	}
	file, err := r.tree.Open(entry.Name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	hasher := plumbing.NewHasher(plumbing.BlobObject, info.Size())
	if _, err := io.Copy(hasher, file); err != nil {
		return false, err
	}
	return hasher.Sum() != entry.Hash, nil
}

// untracked reports whether a file is neither in the index nor ignored.
func (r *Repository) untracked(entries map[string]*index.Entry) (bool, error) {
	patterns, err := gitignore.ReadPatterns(r.tree, nil)
	if err != nil {
		return false, fmt.Errorf("read .gitignore: %w", err)
	}
	ignored := gitignore.NewMatcher(patterns)
	submodules := map[string]bool{}
	for name, entry := range entries {
		submodules[name] = entry.Mode == filemode.Submodule
	}
	var search func(folder string) (bool, error)
	search = func(folder string) (bool, error) {
		files, err := r.tree.ReadDir(path.Clean(folder))
		if err != nil {
			return false, err
		}
		for _, file := range files {
			name := path.Join(folder, file.Name())
			if file.Name() == ".git" || submodules[name] || ignored.Match(strings.Split(name, "/"), file.IsDir()) {
				continue
			}
			if !file.IsDir() {
				if entries[name] == nil {
					return true, nil
				}
				continue
			}
			if found, err := search(name); err != nil || found {
				return found, err
			}
		}
		return false, nil
	}
	if r.folder != "" && ignored.Match(slices.Clone(strings.Split(r.folder, "/")), true) {
		return false, nil
	}
	return search(r.folder)
}
