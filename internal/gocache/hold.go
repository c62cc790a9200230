package gocache

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Who uses a folder of the volume holds it: a shared lock on the folder itself
// (flock(2)), which the kernel ends with the process, however that ends. Who
// removes a folder must take it: an exclusive lock, which there is only while
// nobody holds it, and for a look and a rename. Nobody waits for a lock but to
// hold, and that no longer than such a moment.
//
// A build is several processes, one after the other. From the end of prepare to
// the start of the build step no process holds anything; for that moment
// prepare leaves leases, files in the folders that it held. They do not depend
// on clocks that differ: their age is told by the volume's own time.

// leaseFor is how long a lease counts, whether or not its run is alive. Between
// the two steps are seconds.
const leaseFor = 10 * time.Minute

const leasePrefix = ".lease-"

// flock is a variable for tests of file systems that have no locks.
var flock = unix.Flock

// ErrNoLocks says that the volume's file system has no file locks.
var ErrNoLocks = errors.New("the file system has no file locks")

// errGone says that a folder was replaced or removed while it was locked.
var errGone = fmt.Errorf("it was removed at this moment: %w", fs.ErrNotExist)

// A folder is taken for no longer than takenFor; who is to hold it asks again
// every askAgain.
const (
	takenFor = 2 * time.Second
	askAgain = 5 * time.Millisecond
)

// Held is a folder that is not removed.
type Held struct {
	dir  *os.File
	path string
}

// Hold holds the folder dir until Release, or until the process ends. It
// returns as dir is: what was removed in the meantime is an error.
func Hold(dir string) (*Held, error) {
	for started := time.Now(); ; time.Sleep(askAgain) {
		file, err := lock(dir, unix.LOCK_SH)
		switch {
		case err == nil:
			return &Held{file, dir}, nil
		case !errors.Is(err, unix.EWOULDBLOCK) || time.Since(started) > takenFor:
			return nil, err
		}
	}
}

// lock locks the folder dir without waiting. The error is [unix.EWOULDBLOCK]
// where another has it.
func lock(dir string, how int) (*os.File, error) {
	file, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	err = tryLock(file, how)
	if err == nil {
		// Whoever took it may have moved it between our open and our lock.
		err = stillThere(file, dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), file.Close())
	}
	return file, nil
}

// tryLock locks a file or folder without waiting.
func tryLock(file *os.File, how int) error {
	err := flock(int(file.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EINVAL) {
		return ErrNoLocks
	}
	return err
}

// filesLock is [ErrNoLocks] where the files of a folder cannot be locked, which
// go commands do. Locks of folders say nothing of that: a network file system
// leaves those to the kernel.
func filesLock(dir string) error {
	file, err := os.CreateTemp(dir, staging)
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	return errors.Join(tryLock(file, unix.LOCK_EX), file.Close())
}

func stillThere(file *os.File, path string) error {
	ours, err := file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Lstat(path); err != nil || !os.SameFile(ours, there) {
		return errGone
	}
	return nil
}

// Path is the folder that is held.
func (h *Held) Path() string { return h.path }

// Release gives it back. Of nil it does nothing.
func (h *Held) Release() error {
	if h == nil {
		return nil
	}
	return h.dir.Close()
}

// Touch counts as a use of the folder.
func (h *Held) Touch() error { return touch(h.path) }

// Lease leaves a lease for the next process of this build to remove, once it
// holds the folder itself.
func (h *Held) Lease() (file string, err error) {
	lease, err := os.CreateTemp(h.path, leasePrefix+"*")
	if err != nil {
		return "", err
	}
	return lease.Name(), lease.Close()
}

// alone calls f while nobody else holds the folder. It reports whether that
// could be and f went well, and the folder is held as before. If not, the
// folder may not be held any more.
func (h *Held) alone(f func() error) bool {
	fd := int(h.dir.Fd())
	// A lock that cannot be converted is lost (flock(2)).
	err := flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = stillThere(h.dir, h.path)
	}
	if err == nil {
		err = leased(h.path, Time(filepath.Dir(h.path)))
	}
	if err == nil {
		err = f()
	}
	return errors.Join(err, flock(fd, unix.LOCK_SH|unix.LOCK_NB), stillThere(h.dir, h.path)) == nil
}

// take locks dir for removal. It fails while anybody holds the folder, or has a
// lease of it at the volume's time now.
func take(dir string, now time.Time) (*os.File, error) {
	file, err := lock(dir, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	if err := leased(dir, now); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// leased is an error where a build has a lease of dir at the volume's time now.
func leased(dir string, now time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), leasePrefix) {
			continue
		}
		if info, err := entry.Info(); err == nil && now.Sub(info.ModTime()) < leaseFor {
			return fmt.Errorf("%s is another build's", dir)
		}
	}
	return nil
}

// Time is what the volume says that time is: a network file system need
// not agree with this node.
func Time(volume string) time.Time {
	file, err := os.CreateTemp(volume, staging)
	if err != nil {
		return time.Now()
	}
	defer os.Remove(file.Name())
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

// touch gives path the volume's time.
func touch(path string) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, 0)
}

// trashFolder has what was removed from its place, and is there to be deleted.
// That can take a while, and is cut off and taken up again at will.
const trashFolder = "trash"

// discard moves what is at path, on the volume, out of everybody's sight. It
// makes nothing but the trash itself: there may be no room for more.
func discard(volume, path string) error {
	trash := filepath.Join(volume, trashFolder)
	if err := open(trash); err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(trash, filepath.Base(path)+"-"+rand.Text()))
}

// emptyTrash deletes what was discarded. Several may do so at the same time.
func emptyTrash(volume string) error {
	trash := filepath.Join(volume, trashFolder)
	entries, err := os.ReadDir(trash)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(trash, entry.Name())))
	}
	return err
}
