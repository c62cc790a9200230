// Package gocache is the cache volume: what lies where on it, whether it can
// be used, and what it holds. A problem with it is told and worked around; it
// never fails a build.
//
//	go-build/   GOCACHE of every build of this trust level
//	go-mod/     GOMODCACHE of the same
//	bases/      base images, by the digest of their platform's manifest
//	toolchains/ what those have at /usr/local/go
//	usage.json  what they hold, as far as known
//	trash/      what is to be deleted
package gocache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Name is one of the caches on a volume.
type Name string

// The caches: Go's own two, and the base images that builds start from.
const (
	GoBuild Name = "go-build"
	GoMod   Name = "go-mod"
	Bases   Name = "bases"
	GoRoots Name = "toolchains"
)

// Open makes the cache name on the volume ready and returns its folder, of Go's
// caches the current generation's. The error says why it cannot be used: the
// volume is read-only or full (it has less than minFree bytes left, or next to
// no files), or something else is in its place.
//
// The user of a RUN instruction may be anyone, so all may write: whoever runs
// builds on a volume is trusted by all others who do.
func Open(volume string, name Name, minFree int64) (string, error) {
	dir, err := folder(volume, name)
	if err != nil {
		return "", err
	}
	if err := ready(dir, name); err != nil {
		return "", err
	}
	probe, err := os.CreateTemp(dir, staging)
	if err != nil {
		return "", err
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return "", err
	}
	if err := Room(volume, minFree); err != nil {
		return "", err
	}
	return dir, nil
}

// Room is an error if a volume has less than minFree bytes left, or next to no
// files.
func Room(volume string, minFree int64) error {
	space, err := spaceOf(volume)
	switch {
	case err != nil:
		return err
	case space.free < minFree:
		return fmt.Errorf("%s: only %s left on the volume", volume, units.HumanSize(float64(space.free)))
	case minFree > 0 && space.files > 0 && space.freeFiles < minFreeFiles:
		return fmt.Errorf("%s: only %d more files can be made on the volume", volume, space.freeFiles)
	}
	return nil
}

// minFreeFiles is less than what the smallest of builds makes.
const minFreeFiles = 1000

// folder is where a cache is, or is to be.
func folder(volume string, name Name) (string, error) {
	if name == GoBuild || name == GoMod {
		return current(volume, name)
	}
	return filepath.Join(volume, string(name)), nil
}

// ready makes a cache's folder what the go commands of any user expect.
func ready(dir string, name Name) error {
	if err := open(dir); err != nil {
		return err
	}
	if name == GoBuild || name == GoMod {
		_ = shareNew(dir) // Shared tells
	}
	if name == GoBuild {
		// Go makes these on demand, for its own user only
		// (cmd/go/internal/cache.Open).
		for _, sub := range shards() {
			if err := open(filepath.Join(dir, sub)); err != nil {
				return err
			}
		}
	}
	return nil
}

// shards are the folders that GOCACHE consists of.
func shards() []string {
	names := make([]string, 256)
	for i := range names {
		names[i] = fmt.Sprintf("%02x", i)
	}
	return names
}

// open makes dir, or opens the one that is there to all users. Something else
// that is there is set aside.
func open(dir string) error {
	if err := mkdir(dir); err != nil {
		return err
	}
	// Not Stat: a link may lead out of the volume.
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		if err := setAside(dir); err != nil {
			return fmt.Errorf("%s is not a folder: %w", dir, err)
		}
		if err := mkdir(dir); err != nil {
			return err
		}
		info, err = os.Lstat(dir)
	}
	switch {
	case err != nil:
		return err
	case info.Mode().Perm() != 0o777:
		// It may belong to another user and still be of use: the probe tells.
		_ = os.Chmod(dir, 0o777)
	}
	return nil
}

// mkdir makes dir if nothing is there.
func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// asideSuffix names a folder for what was in the place of one of ours.
const asideSuffix = ".aside-*"

// setAside moves what is no folder at path into one beside it, for whoever
// misses it. Unlike a rename, this cannot move the folder that another build has
// made there by now.
func setAside(path string) error {
	aside, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+asideSuffix)
	if err != nil {
		return err
	}
	err = unix.Linkat(unix.AT_FDCWD, path, unix.AT_FDCWD, filepath.Join(aside, filepath.Base(path)), 0)
	if err == nil {
		err = unix.Unlink(path)
	}
	if err == nil {
		return nil
	}
	_ = os.RemoveAll(aside)
	if info, statErr := os.Lstat(path); errors.Is(statErr, fs.ErrNotExist) || statErr == nil && info.IsDir() {
		return nil // another build was faster
	}
	return err
}

// defaultACL is where Linux keeps what new files in a folder get in place of
// what the umask leaves.
const defaultACL = "system.posix_acl_default"

// shareNew lets every user write what any user makes in dir from now on, as
// root's umask would not have it. Not all file systems can.
func shareNew(dir string) error {
	// The format is linux/posix_acl_xattr.h's: a version, and for owner, group
	// and others a tag, the permissions and no id, each little-endian.
	everything := []byte{2, 0, 0, 0}
	for _, tag := range []byte{0x01, 0x04, 0x20} {
		everything = append(everything, tag, 0, 7, 0, 0xff, 0xff, 0xff, 0xff)
	}
	return unix.Setxattr(dir, defaultACL, everything, 0)
}

// Shared says whether every user can write what any user makes in dir, a
// folder that Open has opened.
func Shared(dir string) bool {
	size, err := unix.Getxattr(dir, defaultACL, nil)
	return err == nil && size > 0
}

// space is how much there is on a volume.
type space struct {
	total, free      int64 // bytes; free is what can still be written
	files, freeFiles int64 // inodes; 0 where the file system does not count them
}

func spaceOf(volume string) (space, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(volume, &s); err != nil {
		return space{}, fmt.Errorf("%s: %w", volume, err)
	}
	return space{
		total: int64(s.Blocks) * s.Bsize, free: int64(s.Bavail) * s.Bsize,
		files: int64(s.Files), freeFiles: int64(s.Ffree),
	}, nil
}
