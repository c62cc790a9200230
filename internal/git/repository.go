// Package git reads what a clone says about the commit it is at. It runs no
// program, follows no link out of the clone, and changes nothing.
package git

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// objectCache bounds the memory that objects take while they are read.
const objectCache = 8 * cache.MiByte

// Repository is a clone, seen from one of its folders.
type Repository struct {
	tree   billy.Filesystem // the working tree
	store  *filesystem.Storage
	folder string // from the working tree's root, "" for that itself
	packs  string // the folder of packed objects
}

// ErrNone is what an error is ([errors.Is]) where there is no clone.
var ErrNone = errors.New("no git clone")

// Open finds the clone that folder is in. Neither it nor its root is looked for
// above root.
func Open(root, folder string) (*Repository, error) {
	for dir := filepath.Join(root, folder); ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(filepath.Join(dir, ".git"))
		switch {
		case err == nil && !info.IsDir():
			return nil, fmt.Errorf("%s is no folder: a clone whose objects are elsewhere (a worktree, a submodule) is not read", filepath.Join(dir, ".git"))
		case err == nil:
			return open(dir, filepath.Join(root, folder))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		if dir == filepath.Clean(root) || dir == filepath.Dir(dir) {
			return nil, fmt.Errorf("%w: neither %s nor a folder above it has a .git", ErrNone, folder)
		}
	}
}

func open(dir, folder string) (*Repository, error) {
	inside, err := filepath.Rel(dir, folder)
	if err != nil {
		return nil, err
	}
	if inside == "." {
		inside = ""
	}
	tree := osfs.New(dir, osfs.WithBoundOS())
	dotGit := osfs.New(filepath.Join(dir, ".git"), osfs.WithBoundOS())
	return &Repository{
		tree:   tree,
		store:  filesystem.NewStorageWithOptions(dotGit, cache.NewObjectLRU(objectCache), filesystem.Options{KeepDescriptors: true}),
		folder: filepath.ToSlash(inside),
		packs:  filepath.Join(dir, ".git", "objects", "pack"),
	}, nil
}

// Close ends the use of files.
func (r *Repository) Close() error { return r.store.Close() }

// Commit is the full name of the commit the clone is at.
func (r *Repository) Commit() (string, error) {
	head, err := r.head()
	return head.String(), err
}

// Tree is the full name of what the commit has in the folder.
func (r *Repository) Tree() (string, error) {
	tree, err := r.folderTree()
	if err != nil {
		return "", err
	}
	return tree.Hash.String(), nil
}

// Branch is the branch the clone is on.
func (r *Repository) Branch() (string, error) {
	head, err := r.store.Reference(plumbing.HEAD)
	if err != nil {
		return "", fmt.Errorf("read HEAD: %w", err)
	}
	if head.Type() != plumbing.SymbolicReference || !head.Target().IsBranch() {
		return "", errors.New("the clone is at a commit and on no branch")
	}
	return head.Target().Short(), nil
}

func (r *Repository) head() (plumbing.Hash, error) {
	name := plumbing.HEAD
	for range 10 { // symbolic references to symbolic references
		ref, err := r.store.Reference(name)
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return plumbing.ZeroHash, errors.New("the clone has no commit")
		}
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("read %s: %w", name, err)
		}
		if ref.Type() == plumbing.HashReference {
			return ref.Hash(), nil
		}
		name = ref.Target()
	}
	return plumbing.ZeroHash, errors.New("HEAD leads to no commit")
}

func (r *Repository) folderTree() (*object.Tree, error) {
	head, err := r.head()
	if err != nil {
		return nil, err
	}
	commit, err := object.GetCommit(r.store, head)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", head, err)
	}
	tree, err := commit.Tree()
	if err == nil && r.folder != "" {
		tree, err = tree.Tree(r.folder)
	}
	if err != nil {
		return nil, fmt.Errorf("read folder %s of commit %s: %w", path.Clean(r.folder), head, err)
	}
	return tree, nil
}

// minAbbreviation is the fewest digits of an abbreviated name.
const minAbbreviation = 7

// Abbreviate shortens an object's full name as git does: to a length that grows
// with the number of packed objects, and to more where that is ambiguous.
func (r *Repository) Abbreviate(name string) (string, error) {
	packed, err := r.packedObjects()
	if err != nil {
		return "", err
	}
	hash := plumbing.NewHash(name)
	length := max(minAbbreviation, (bits.Len64(packed)+1)/2)
	similar, err := r.store.HashesWithPrefix(hash[:length/2])
	if err != nil {
		return "", fmt.Errorf("abbreviate %s: %w", name, err)
	}
	for _, other := range similar {
		if other == hash {
			continue
		}
		for length < len(name) && strings.HasPrefix(other.String(), name[:length]) {
			length++
		}
	}
	return name[:length], nil
}

// packedObjects reads the counts in the indexes of packs
// (https://git-scm.com/docs/pack-format: the fan-out table's last entry).
func (r *Repository) packedObjects() (uint64, error) {
	indexes, err := filepath.Glob(filepath.Join(r.packs, "*.idx"))
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, index := range indexes {
		count, err := packed(index)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", filepath.Base(index), err)
		}
		sum += uint64(count)
	}
	return sum, nil
}

func packed(index string) (uint32, error) {
	const header, fanOut = 8, 256 * 4
	file, err := os.Open(index)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var last [4]byte
	if _, err := file.ReadAt(last[:], header+fanOut-4); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return binary.BigEndian.Uint32(last[:]), nil
}
