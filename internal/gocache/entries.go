package gocache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// entries is a folder of folders that are each named by a digest. An entry is
// complete or absent at every instant, whoever else uses the folder and
// whenever they are killed.
type entries string

const (
	staging    = ".staging-"         // how is named what is not there to stay, such as a folder that is not an entry yet, or no longer
	staleAfter = 24 * time.Hour      // what has such a name and is that old was left by a killed run
	keepFor    = 14 * 24 * time.Hour // since an entry's last use
)

// exchange is renameat2(2); a variable for tests of file systems without it.
var exchange = func(one, other string) error {
	return unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
}

// stage makes a folder to fill for commit. What is left of it is the caller's
// to remove.
func (e entries) stage() (string, error) {
	temporary, err := os.MkdirTemp(string(e), staging)
	if err != nil {
		return "", err
	}
	return temporary, os.Chmod(temporary, 0o755)
}

// commit makes a staged folder the entry name. One that is there already, as
// another run may have made it by now, stays if it is right. If not, the staged
// folder takes its place: whoever reads it finds the one or the other.
func (e entries) commit(temporary, name string, right func() bool) error {
	path := filepath.Join(string(e), name)
	err := os.Rename(temporary, path)
	switch {
	case !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTDIR):
		return err
	case right():
		return nil
	}
	if exchange(temporary, path) == nil {
		return nil
	}
	// A network file system need not know of that: there is no entry for a moment.
	aside, err := os.MkdirTemp(string(e), staging)
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Remove(aside))
	}
	err = os.Rename(temporary, path)
	_ = os.RemoveAll(aside) // or later: deleteStale
	return err
}

// touch counts as a use of the entry name.
func (e entries) touch(name string) error { return touch(filepath.Join(string(e), name)) }

// list are the entries. The error is [fs.ErrNotExist] where there is no folder.
func (e entries) list() ([]fs.FileInfo, error) {
	found, err := os.ReadDir(string(e))
	if err != nil {
		return nil, err
	}
	var infos []fs.FileInfo
	for _, entry := range found {
		if _, err := v1.NewHash(entry.Name()); err != nil {
			continue
		}
		if info, err := entry.Info(); err == nil { // or gone by now
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// Trim discards the base images and toolchains that no build has used for two
// weeks, or not since the last time that there was too much, and what killed
// runs have left beside them. It returns how many it discarded. [Tidy] deletes
// them, but where the volume has less than minFree bytes left: then no cache
// can be used before they are deleted.
func Trim(volume string, minFree int64) (removed int, err error) {
	now, since := Time(volume), ReadUsage(volume).Kept
	for _, name := range []Name{Bases, GoRoots} {
		dir := filepath.Join(volume, string(name))
		// Not Stat: a link may lead out of the volume.
		if info, statErr := os.Lstat(dir); statErr != nil || !info.IsDir() {
			continue
		}
		n, trimErr := entries(dir).trim(now, since)
		removed += n
		err = errors.Join(err, trimErr)
	}
	if Room(volume, minFree) != nil {
		err = errors.Join(err, emptyTrash(volume))
	}
	return removed, err
}

// trim discards the entries that were not used for two weeks, or not since a
// time, and what killed runs have left. None is in use: of those that a build
// has just found it need not have a lock yet. It returns how many entries it
// discarded.
func (e entries) trim(now, since time.Time) (int, error) {
	volume := filepath.Dir(string(e))
	found, err := e.list()
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, entry := range found {
		age := now.Sub(entry.ModTime())
		if age < leaseFor || age < keepFor && !entry.ModTime().Before(since) {
			continue
		}
		path := filepath.Join(string(e), entry.Name())
		lock, err := take(path, now)
		if again, statErr := os.Lstat(path); err == nil && (statErr != nil || !again.ModTime().Equal(entry.ModTime())) {
			_ = lock.Close()
			continue // used, or removed, since it was listed
		}
		switch {
		case err == nil:
			err = errors.Join(discard(volume, path), lock.Close())
		case errors.Is(err, ErrNoLocks) && age > keepFor:
			err = discard(volume, path)
		case errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
			err = discard(volume, path) // nothing that a build uses
		default:
			continue // in use
		}
		if err != nil {
			return removed, err
		}
		removed++
	}
	return removed, deleteStale(string(e), now)
}

// deleteStale deletes what killed runs have left in a folder.
func deleteStale(dir string, now time.Time) error {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range found {
		ours := slices.ContainsFunc([]string{staging, leasePrefix, "." + usageFile + "."}, func(prefix string) bool {
			return strings.HasPrefix(entry.Name(), prefix)
		})
		info, err := entry.Info()
		if err != nil || !ours || now.Sub(info.ModTime()) < staleAfter {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
