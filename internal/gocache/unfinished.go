package gocache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Go commands take a module that is there for a whole one, and never look
// again. What a node's crash has left of it would fail every build from then on,
// so builds leave marks in the GOMODCACHE that they use, for the next one to
// read what may be wrong before a go command does:
//
//   - one while they last, that they have a lock of: without it, the build was
//     killed;
//   - one of their repository, if they failed.

const (
	unfinishedPrefix = ".unfinished-"
	failedPrefix     = ".failed-"
)

// writtenBefore is how much older than a crash a file may be that the crash
// took: what Linux has written to its disk after that time (vm.dirty_expire,
// and the commits of its file systems).
const writtenBefore = 2 * time.Minute

// Unfinished is the mark of a running build.
type Unfinished struct {
	file   *os.File
	mark   string // its path
	failed string // path of the mark that the build failed
}

// MarkUnfinished marks the GOMODCACHE that a build of a repository uses, until
// End, or for the next build if that is never called.
func MarkUnfinished(goMod, repository string) (*Unfinished, error) {
	file, err := os.CreateTemp(goMod, staging+"*")
	if err != nil {
		return nil, err
	}
	// It has the name of a mark with the lock: without it, it is a killed
	// build's.
	mark := filepath.Join(goMod, unfinishedPrefix+strings.TrimPrefix(filepath.Base(file.Name()), staging))
	err = flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Rename(file.Name(), mark)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	return &Unfinished{file, mark, failedMark(goMod, repository)}, nil
}

// End says how the build has ended. Of nil it does nothing.
func (u *Unfinished) End(failed bool) error {
	if u == nil {
		return nil
	}
	var err error
	if failed {
		err = os.WriteFile(u.failed, nil, 0o644)
	}
	return errors.Join(err, os.Remove(u.mark), u.file.Close())
}

func failedMark(goMod, repository string) string {
	sum := sha256.Sum256([]byte(repository))
	return filepath.Join(goMod, failedPrefix+hex.EncodeToString(sum[:8]))
}

// doubts are what earlier builds give reason to read.
type doubts struct {
	own   bool      // what this build is about to use
	since time.Time // what was written since then, if that is not zero
	marks []string
}

func doubtsOf(goMod, repository string) doubts {
	var d doubts
	failed := failedMark(goMod, repository)
	if _, err := os.Lstat(failed); err == nil {
		d.own, d.marks = true, append(d.marks, failed)
	}
	entries, err := os.ReadDir(goMod)
	if err != nil {
		return d
	}
	for _, entry := range entries {
		path := filepath.Join(goMod, entry.Name())
		if !strings.HasPrefix(entry.Name(), unfinishedPrefix) || !entry.Type().IsRegular() || !killed(path) {
			continue
		}
		if info, err := entry.Info(); err == nil {
			if began := info.ModTime().Add(-writtenBefore); d.since.IsZero() || began.Before(d.since) {
				d.since = began
			}
			d.marks = append(d.marks, path)
		}
	}
	return d
}

// killed says whether nobody has the mark's lock.
func killed(mark string) bool {
	file, err := os.OpenFile(mark, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	return flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}

// written are the modules that came into being since the time in question.
func (d doubts) written(goMod string) []*modVersion {
	if d.since.IsZero() {
		return nil
	}
	var found []*modVersion
	for _, m := range modulesIn(goMod) {
		for _, path := range []string{m.tree(), filepath.Join(m.download(), m.version+".ziphash")} {
			if info, err := os.Lstat(path); err == nil && info.ModTime().After(d.since) {
				found = append(found, m)
				break
			}
		}
	}
	return found
}

// settle removes the marks.
func (d doubts) settle() {
	for _, mark := range d.marks {
		_ = os.Remove(mark) // what stays is read about once more
	}
}
