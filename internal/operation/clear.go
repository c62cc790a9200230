package operation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// ClearSign stands for [Clear] in the place of an index: see [Main].
const ClearSign = "clear"

// ignored are paths that kaniko ignores by itself, other than its own folder
// (pkg/util/fs_util.go, defaultIgnoreList; --ignore-var-run).
var ignored = []string{"/etc/mtab", "/tmp/apt-key-gpghome", "/var/run"}

// Clear removes the root file system of a stage, as kaniko does before the next
// one, and makes ready for that what stays: the folders above the paths that kaniko
// ignores. They get the mode and the owner of a folder that COPY makes, so that
// they have others only where the next stage's base image has them itself. dir is
// the folder of the plan.
func Clear(dir string) error {
	var world World
	if err := read(dir, worldFile, &world); err != nil {
		return err
	}
	left, err := clearBelow(root, slices.Concat(world.Hidden, world.Ignored))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(world.Kept, 0o755); err != nil {
		return err
	}
	return left.write(world)
}

// leftOver are the folders that are there after Clear, with the time at which
// something about each has last changed, in nanoseconds. A folder whose time is
// still that one is not in the base image, and nothing has been made in it.
type leftOver map[string]int64

// leftFile is the name of the file with the folders that are left over.
const leftFile = "left.json"

func (l leftOver) write(world World) error {
	content, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(world.Kept, leftFile), content, 0o644)
}

// readLeft reads what Clear has left before this stage.
func readLeft(world World) (l leftOver, err error) {
	content, err := os.ReadFile(filepath.Join(world.Kept, leftFile))
	if missing(err) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &l)
	}
	return l, err
}

// refresh has folders be left over again that have changed, and have nothing in
// them.
func (c *keeper) refresh(world World, folders []string) error {
	for _, folder := range slices.Backward(folders) { // those below others first
		changed, err := changedAt(folder)
		if missing(err) {
			continue
		}
		if err != nil {
			return err
		}
		before := c.left[folder]
		if c.left[folder] = changed; !c.isLeft(folder) {
			c.left[folder] = before
		}
	}
	return c.left.write(world)
}

// changedAt is the time at which anything about a file has last changed, its
// owner and mode too.
func changedAt(name string) (int64, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(name, &stat); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	return stat.Ctim.Nano(), nil
}

// clearBelow clears the root file system at a folder, and returns what is left of
// it.
func clearBelow(root string, hidden []string) (leftOver, error) {
	c := clearer{root: root, keeper: keeper{hidden: hidden}, left: leftOver{}}
	return c.left, c.clear("/")
}

// clearer removes files that are below root.
type clearer struct {
	keeper keeper
	root   string
	left   leftOver
}

// clear removes what can be removed of a folder.
func (c *clearer) clear(folder string) error {
	entries, err := os.ReadDir(filepath.Join(c.root, folder))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := path.Join(folder, entry.Name())
		at := filepath.Join(c.root, name)
		switch {
		case c.keeper.skipped(name):
		case entry.IsDir() && c.isAbove(name):
			if err := c.clear(name); err != nil {
				return err
			}
			if os.Remove(at) == nil {
				continue
			}
			// Folders further down keep the modes that they were set up with.
			if folder == "/" {
				if err := errors.Join(os.Lchown(at, 0, 0), os.Chmod(at, 0o755), removeXAttrs(at)); err != nil {
					return fmt.Errorf("make %s ready for the next stage: %w", name, err)
				}
			}
			if c.left[name], err = changedAt(at); err != nil {
				return err
			}
		default:
			// kaniko does not mind either what it cannot remove.
			_ = os.RemoveAll(at)
		}
	}
	return nil
}

// isAbove reports whether a folder is above a path that kaniko ignores.
func (c *clearer) isAbove(folder string) bool {
	return slices.ContainsFunc(slices.Concat(c.keeper.hidden, ignored), func(pattern string) bool {
		inside, ok := below(pattern, folder)
		return ok && inside != ""
	})
}

// removeXAttrs removes the extended attributes of a file that can be removed.
func removeXAttrs(name string) error {
	names, err := xattrs(name)
	for _, attribute := range names {
		_ = unix.Lremovexattr(name, attribute)
	}
	return err
}
