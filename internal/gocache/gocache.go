// Package gocache is the cache volume: what lies where on it, whether it can
// be used, and what it holds. A problem with it is told and worked around; it
// never fails a build.
//
//	go-build/   GOCACHE of every build of this trust level
//	go-mod/     GOMODCACHE of the same
//	bases/      base images, by the digest of their platform's manifest
//	toolchains/ what those have at /usr/local/go
package gocache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

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

// Open makes the cache name on the volume ready and returns its folder. The
// error says why it cannot be used: the volume is read-only or full (it has
// less than minFree bytes left), or something else is in its place.
//
// The user of a RUN instruction may be anyone, so all may write: whoever runs
// builds on a volume is trusted by all others who do.
func Open(volume string, name Name, minFree int64) (string, error) {
	dir := filepath.Join(volume, string(name))
	if err := open(dir); err != nil {
		return "", err
	}
	if name == GoBuild || name == GoMod {
		_ = shareNew(dir) // Shared tells
	}
	if name == GoBuild {
		// Go makes these on demand, for its own user only
		// (cmd/go/internal/cache.Open).
		for i := range 256 {
			if err := open(filepath.Join(dir, fmt.Sprintf("%02x", i))); err != nil {
				return "", err
			}
		}
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return "", err
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return "", err
	}
	free, err := Free(volume)
	if err != nil {
		return "", err
	}
	if free < minFree {
		return "", fmt.Errorf("%s: only %s left on the volume", volume, units.HumanSize(float64(free)))
	}
	return dir, nil
}

// open makes dir, or opens the one that is there to all users.
func open(dir string) error {
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Not Stat: a link may lead out of the volume.
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case info.Mode().Perm() != 0o777:
		// It may belong to another user and still be of use: the probe tells.
		_ = os.Chmod(dir, 0o777)
	}
	return nil
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

// Free is the number of bytes that can still be written to the volume.
func Free(volume string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(volume, &s); err != nil {
		return 0, fmt.Errorf("%s: %w", volume, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// Usage is what a cache holds.
type Usage struct {
	Bytes   int64
	Files   int
	Partial bool // there was no time to look at all of it
}

func (u Usage) String() string {
	if u.Files == 0 {
		return "empty"
	}
	text := units.HumanSize(float64(u.Bytes))
	if u.Partial {
		return "over " + text
	}
	return text
}

// Measure counts what is in dir, for the time limit at most. What cannot be
// read counts as nothing: other builds may be writing and removing.
func Measure(ctx context.Context, dir string, limit time.Duration) Usage {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var u Usage
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			u.Bytes += info.Size()
			u.Files++
		}
		return nil
	})
	u.Partial = err != nil
	return u
}
