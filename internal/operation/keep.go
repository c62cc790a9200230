package operation

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	continuity "github.com/containerd/continuity/fs"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"
)

// Keep copies what later stages take of this one to where they find it, since
// kaniko removes the stage's file system when it has built the stage. kaniko's
// own way of doing so loses hard links and attributes, and what a link leads to.
type Keep struct {
	Stage string `json:"stage"` // a name for it, a path element
	// Paths are what the others name, absolute; some are patterns.
	Paths []KeptPath `json:"paths"`
	// Ran says that a RUN was carried out before. BuildKit's executor makes the
	// folders for its mounts then, and they stay.
	Ran bool `json:"ran,omitempty"`
	// Digest says that the marker must differ where what is kept does, as it
	// decides whether layers of other stages are taken from kaniko's cache.
	Digest bool `json:"digest,omitempty"`
}

// KeptPath is a path of a stage that another stage names.
type KeptPath struct {
	Path     string `json:"path"`
	Wildcard bool   `json:"wildcard,omitempty"`
}

// marker is the name of the file with the digest of what is kept of a stage. The
// stages that take something of it copy this file with an instruction of
// kaniko's, which so knows what depends on what.
const marker = ".digest"

// Marker returns the path of the file that a stage's Keep leaves for kaniko.
func (w World) Marker(stage string) string { return filepath.Join(w.Kept, stage+marker) }

func (k *Keep) run(ctx context.Context, world World) error {
	kept := filepath.Join(world.Kept, k.Stage)
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	c, err := newKeeper(world)
	if err != nil {
		return err
	}
	c.kept, c.ran = kept, k.Ran
	for _, p := range k.Paths {
		matches := []string{path.Clean(p.Path)}
		if p.Wildcard {
			pattern := path.Join("/", p.Path)
			// Whoever copies looks for matches in this folder, even if it has none.
			if err := c.keep(ctx, withoutSpecial(pattern), 0, false); err != nil {
				return err
			}
			matches = c.matches(pattern)
		}
		for _, match := range matches {
			if err := c.keep(ctx, path.Join("/", match), 0, true); err != nil {
				return err
			}
		}
	}
	sum := ""
	if k.Digest {
		if sum, err = digestOf(kept); err != nil {
			return err
		}
	}
	return os.WriteFile(world.Marker(k.Stage), []byte(sum+"\n"), 0o644)
}

// matches returns the paths of the root file system that a pattern matches, as
// fsutil's ResolveWildcards does for the copy that follows: it follows links up
// to the first element with a special character, and none from there on. That
// function itself looks at all files, also at those of /proc.
func (c *keeper) matches(pattern string) []string {
	elements := strings.Split(pattern[1:], "/")
	found := []string{"/"}
	special := false
	for i, element := range elements {
		special = special || hasSpecial(element)
		if !special {
			found[0] = path.Join(found[0], element)
			continue
		}
		var next []string
		for _, folder := range found {
			at := folder
			if i > 0 && !hasSpecial(strings.Join(elements[:i], "/")) {
				var err error
				if at, err = continuity.RootPath(root, folder); err != nil {
					continue
				}
			} else if info, err := os.Lstat(folder); err != nil || !info.IsDir() {
				continue
			}
			entries, _ := os.ReadDir(at) // what is no folder has nothing in it
			for _, entry := range entries {
				if ok, err := path.Match(element, entry.Name()); ok && err == nil && !c.skipped(path.Join(at, entry.Name())) {
					next = append(next, path.Join(folder, entry.Name()))
				}
			}
		}
		if found = next; len(found) == 0 {
			return nil
		}
	}
	return found
}

// hasSpecial reports whether part of a path is a pattern.
func hasSpecial(part string) bool {
	for i := 0; i < len(part); i++ {
		switch part[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// keeper copies paths of the root file system to the same paths in kept.
type keeper struct {
	kept   string
	hidden []string
	left   leftOver
	ran    bool
}

// newKeeper knows what is in the container and in no stage.
func newKeeper(world World) (*keeper, error) {
	left, err := readLeft(world)
	return &keeper{hidden: world.Hidden, left: left}, err
}

// leftBelow returns the folders below another that are left over, by their paths
// in it.
func (c *keeper) leftBelow(folder string) []string {
	var found []string
	for _, left := range slices.Sorted(maps.Keys(c.left)) {
		if inside, ok := below(left, folder); ok && inside != "" && c.isLeft(left) {
			found = append(found, inside)
		}
	}
	return found
}

// holds reports whether there is something in a folder that must stay: a mount,
// or what is set up.
func (c *keeper) holds(folder string) bool {
	if _, ok := c.left[folder]; ok {
		return true
	}
	return slices.ContainsFunc(c.hidden, func(pattern string) bool {
		_, ok := below(pattern, folder)
		return ok
	})
}

// mountPoints are the folders of the root file system for what every RUN has
// mounted there.
var mountPoints = []string{"/dev", "/proc", "/sys"}

// maxLinks is how many links may lead to a file, as in the kernel.
const maxLinks = 40

// keep copies p, and where a folder on the way or p itself is a symbolic link,
// that link and what it leads to; of a folder only itself, without whole. What
// is not there is not kept: whoever copies it says so.
func (c *keeper) keep(ctx context.Context, p string, links int, whole bool) error {
	at := "/"
	rest := strings.Split(strings.Trim(p, "/"), "/")
	for i, element := range rest {
		if element == "" {
			break
		}
		at = path.Join(at, element)
		if c.skipped(at) {
			return nil
		}
		info, err := os.Lstat(at)
		if missing(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if err := c.copyOne(ctx, at); err != nil {
				return err
			}
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			if links == maxLinks {
				return fmt.Errorf("%s: %w", p, syscall.ELOOP)
			}
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(at), target)
			}
			return c.keep(ctx, path.Join(append([]string{target}, rest[i+1:]...)...), links+1, whole)
		}
		if i < len(rest)-1 {
			if err := c.folder(at); err != nil {
				return err
			}
		}
	}
	if !whole {
		return c.folder(at)
	}
	return c.copyOne(ctx, at)
}

// withoutSpecial is the folder that a pattern is matched from.
func withoutSpecial(pattern string) string {
	folder := "/"
	for element := range strings.SplitSeq(pattern[1:], "/") {
		if hasSpecial(element) {
			break
		}
		folder = path.Join(folder, element)
	}
	return folder
}

// folder makes a folder that is on the way, as it is.
func (c *keeper) folder(at string) error {
	info, err := os.Lstat(at)
	if err != nil || !info.IsDir() || at == "/" {
		return err
	}
	if _, err := os.Lstat(c.kept + at); err == nil {
		return nil
	}
	if err := os.Mkdir(c.kept+at, 0o755); err != nil {
		return err
	}
	return sameMetadata(at, c.kept+at)
}

// copyOne copies a file, a link, or a folder with all that is in it.
func (c *keeper) copyOne(ctx context.Context, at string) error {
	if c.skipped(at) {
		return nil
	}
	var exclude []string
	for _, hidden := range c.hidden {
		if inside, ok := below(hidden, at); ok && inside != "" {
			exclude = append(exclude, inside)
		}
	}
	if info, err := os.Lstat(c.kept + at); err == nil && !info.IsDir() {
		return nil // it is there already
	}
	if err := fscopy.Copy(ctx, root, at, c.kept, at, func(ci *fscopy.CopyInfo) {
		ci.Chown = chowner(nil)
		ci.CopyDirContents = true
		ci.ExcludePatterns = exclude
		ci.AlwaysReplaceExistingDestPaths = true
	}, fscopy.AllowXAttrErrors); err != nil {
		return err
	}
	if info, err := os.Lstat(at); err != nil || !info.IsDir() {
		return err
	}
	for _, folder := range slices.SortedFunc(maps.Keys(c.left), func(a, b string) int { return len(b) - len(a) }) {
		if _, inside := below(folder, at); inside && c.isLeft(folder) {
			if err := os.Remove(c.kept + folder); err != nil && !missing(err) {
				return err
			}
		}
	}
	if at == "/" && c.ran {
		for _, folder := range mountPoints {
			if err := os.Mkdir(c.kept+folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return sameMetadata(at, c.kept+at)
}

// below is what follows a folder and a slash in a path or a pattern.
func below(pattern, folder string) (inside string, ok bool) {
	if folder == "/" {
		return pattern[1:], true
	}
	depth := strings.Count(folder, "/")
	elements := strings.Split(pattern, "/")
	if len(elements) <= depth {
		return "", false
	}
	matched, err := path.Match(strings.Join(elements[:depth+1], "/"), folder)
	return strings.Join(elements[depth+1:], "/"), err == nil && matched
}

// isLeft reports whether a folder is there for what is hidden below it alone.
func (c *keeper) isLeft(folder string) bool {
	then, ok := c.left[folder]
	if !ok {
		return false
	}
	if changed, err := changedAt(folder); err != nil || changed != then {
		return false
	}
	entries, err := os.ReadDir(folder)
	return err == nil && !slices.ContainsFunc(entries, func(entry fs.DirEntry) bool { return !c.skipped(path.Join(folder, entry.Name())) })
}

// skipped reports whether a path is in no stage: it is hidden, or in a folder
// that is, or it is left over.
func (c *keeper) skipped(at string) bool {
	return c.isLeft(at) || c.isHidden(at)
}

// isHidden reports whether a path is hidden, or in a folder that is.
func (c *keeper) isHidden(at string) bool {
	for _, hidden := range c.hidden {
		for folder := at; folder != "/"; folder = path.Dir(folder) {
			if matched, err := path.Match(hidden, folder); err == nil && matched {
				return true
			}
		}
	}
	return false
}

// digestOf returns a digest of all that is in a folder but for times.
func digestOf(folder string) (string, error) {
	sum := sha256.New()
	out := bufio.NewWriter(sum)
	err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		uid, gid := ids(info)
		fmt.Fprintf(out, "%q %o %d %d\n", strings.TrimPrefix(name, folder), info.Mode(), uid, gid)
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%q\n", link)
		case info.Mode().IsRegular():
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			defer file.Close()
			fmt.Fprintln(out, info.Size())
			if _, err := io.Copy(out, file); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, out.Flush()); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// ids returns the owner of a file.
func ids(info fs.FileInfo) (uid, gid int) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid), int(stat.Gid)
	}
	return 0, 0
}

// copyXAttrs copies the extended attributes that the file system takes.
func copyXAttrs(from, to string) error {
	names, err := xattrs(from)
	for _, name := range names {
		size, err := unix.Lgetxattr(from, name, nil)
		if err != nil {
			continue
		}
		value := make([]byte, size)
		if size, err = unix.Lgetxattr(from, name, value); err == nil {
			_ = unix.Lsetxattr(to, name, value[:size], 0) // as BuildKit's copies do
		}
	}
	return err
}

// xattrs are the names of a file's extended attributes.
func xattrs(name string) ([]string, error) {
	size, err := unix.Llistxattr(name, nil)
	if err != nil || size == 0 {
		return nil, nil //nolint:nilerr // a file system without attributes
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(name, names); err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(names[:size]), "\x00"), "\x00"), nil
}
