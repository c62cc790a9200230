package operation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ClearSign stands for [Clear] in the place of an index: see [Main].
const ClearSign = "clear"

// ignored are paths that kaniko ignores by itself (pkg/util/fs_util.go,
// defaultIgnoreList), other than its own folder.
var ignored = []string{"/etc/mtab", "/tmp/apt-key-gpghome", "/var/run"}

// Clear makes ready for the next stage what kaniko leaves of a root file system:
// the folders above the paths that it ignores. An empty one is removed. Another
// gets the mode and the owner of a folder that COPY makes, so that it has others
// only where the stage's base image has the folder itself. dir is the folder of
// the plan.
func Clear(dir string) error {
	var world World
	if err := read(dir, worldFile, &world); err != nil {
		return err
	}
	left, err := clearBelow(root, world.Hidden)
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

// changedAt is the time at which anything about a file has last changed, its
// owner and mode too.
func changedAt(name string) (int64, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(name, &stat); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	return stat.Ctim.Nano(), nil
}

// clearBelow clears the root file system at a folder, and returns what is left of it.
func clearBelow(root string, hidden []string) (leftOver, error) {
	k := keeper{hidden: hidden}
	left := leftOver{}
	folders := map[string]bool{}
	for _, pattern := range slices.Concat(hidden, ignored) {
		for above := path.Dir(path.Clean(pattern)); above != "/"; above = path.Dir(above) {
			found, err := filepath.Glob(filepath.Join(root, above))
			if err != nil {
				return nil, fmt.Errorf("folders above %s: %w", pattern, err)
			}
			for _, folder := range found {
				folders["/"+strings.TrimLeft(strings.TrimPrefix(folder, root), "/")] = true
			}
		}
	}
	// From the longest, which are below others.
	for _, folder := range slices.SortedFunc(maps.Keys(folders), func(a, b string) int { return len(b) - len(a) }) {
		if k.skipped(folder) {
			continue // it is mounted, or in what is
		}
		at := filepath.Join(root, folder)
		info, err := os.Lstat(at)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() || os.Remove(at) == nil {
			continue
		}
		// What is set up further down has modes of its own.
		if path.Dir(folder) == "/" {
			if err := errors.Join(os.Lchown(at, 0, 0), os.Chmod(at, 0o755), removeXAttrs(at)); err != nil {
				return nil, fmt.Errorf("clear %s for the next stage: %w", folder, err)
			}
		}
		if left[folder], err = changedAt(at); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// removeXAttrs removes the extended attributes of a file that can be removed.
func removeXAttrs(name string) error {
	names, err := xattrs(name)
	for _, attribute := range names {
		_ = unix.Lremovexattr(name, attribute)
	}
	return err
}
