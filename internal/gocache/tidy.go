package gocache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Budget is what [Tidy] needs to know.
type Budget struct {
	Volume     string
	Toolchains string // where this process sees the volume's, "" for nowhere
	Size       int64  // bytes that all caches together may hold; 0 for as many as the volume has room for
	Repository string // whose build it is
	GoBuild    string // what the build uses of the volume, "" for none
	GoMod      string
}

// Tidying keeps a volume within its budget, beside a build. Whenever it is cut
// off, even by the process's end, the next one goes on.
type Tidying struct {
	Budget
	started time.Time // the volume's

	beside chan struct{}
	lock   *os.File // nil where another one tidies
	usage  Usage
	since  time.Time // carry what was used since then; zero where nothing has to go
	gone   int64     // bytes that go then
	err    error
}

// Tidy starts to tidy, with what processor time nobody else wants.
func Tidy(b Budget) *Tidying {
	t := &Tidying{Budget: b, started: Time(b.Volume), beside: make(chan struct{})}

	go func() {
		defer close(t.beside)
		// The thread ends with the goroutine, as it stays locked.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19) // this thread's, on Linux
		t.err = t.first()
	}()
	return t
}

// first does what takes long: it deletes what nobody uses, and carries over
// what is to be kept.
func (t *Tidying) first() error {
	trash := filepath.Join(t.Volume, trashFolder)
	if err := open(trash); err != nil {
		return err
	}
	lock, err := lock(trash, unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, ErrNoLocks) {
		return nil // another build does it, or none can: prepare has said so
	}
	if err != nil {
		return err
	}
	t.lock = lock
	if err := t.delete(); err != nil {
		return err
	}
	if t.usage, err = ReadUsage(t.Volume).measure(t.Volume, t.Toolchains); err != nil {
		return err
	}
	room, err := spaceOf(t.Volume)
	if err != nil {
		return err
	}
	stay, over := excess(t.Size, t.usage.of(""), room)
	if !over {
		return nil
	}
	all, err := t.usage.items(t.Volume, t.Toolchains)
	if err != nil {
		return err
	}
	t.since, t.gone = keptSince(all, stay)
	return t.carry(time.Time{})
}

// delete makes room of what was discarded, of the generations that nobody uses
// any more, and of what killed runs have left beside all of these.
func (t *Tidying) delete() error {
	now := Time(t.Volume)
	err := errors.Join(emptyTrash(t.Volume), retire(t.Volume, GoBuild, now), retire(t.Volume, GoMod, now))
	for _, dir := range []string{t.Volume, t.GoBuild, t.GoMod} {
		if dir != "" {
			err = errors.Join(err, deleteStale(dir, now))
		}
	}
	return errors.Join(err, emptyTrash(t.Volume))
}

// carry links what is to be kept to the next generations. The second time it
// takes what has changed since a time.
func (t *Tidying) carry(changed time.Time) error {
	for _, name := range []Name{GoBuild, GoMod} {
		from, err := current(t.Volume, name)
		if err != nil {
			return err
		}
		to, err := staged(t.Volume, name)
		if err != nil {
			return err
		}
		if name == GoBuild {
			err = carryObjects(from, to, t.since, changed)
		} else {
			err = carryModules(from, to, t.since)
		}
		if err != nil {
			return fmt.Errorf("keep a part of %s: %w", from, err)
		}
	}
	return nil
}

// End completes the work when the build has ended and holds nothing any more,
// within the time limit, and says how things are; "" where there is nothing to
// say.
func (t *Tidying) End(limit time.Duration) (string, error) {
	var said string
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-t.beside
		said, err = t.last()
	}()
	select {
	case <-ended:
		return said, err
	case <-time.After(limit):
		return "caches: tidying them takes longer than this build, the next one goes on with it", nil
	}
}

func (t *Tidying) last() (string, error) {
	if t.GoBuild != "" {
		setObjectWriters(t.GoBuild, t.Repository, t.started)
	}
	if t.GoMod != "" {
		setModuleWriters(t.GoMod, t.Repository, t.started)
	}
	if t.lock == nil {
		return "", t.err
	}
	defer t.lock.Close()
	err := t.err
	if !t.since.IsZero() {
		if err == nil {
			err = t.succeed()
		}
		if err != nil {
			// There is no room even for making room, or no way to keep a part.
			err = errors.Join(err, t.startAnew())
		}
	}
	if t.since.IsZero() {
		usage, measureErr := t.usage.measure(t.Volume, t.Toolchains)
		if measureErr != nil {
			return "", errors.Join(err, measureErr)
		}
		t.usage = usage
	} else {
		// The new generation takes long to measure: that is for beside the
		// next build.
		t.usage.Kept = t.since
	}
	if err := errors.Join(err, t.usage.write(t.Volume)); err != nil {
		return "", err
	}
	return t.say(), nil
}

// succeed makes the next generations the current ones.
func (t *Tidying) succeed() error {
	if err := t.carry(t.started); err != nil {
		return err
	}
	if from, err := current(t.Volume, GoMod); err != nil {
		return err
	} else if err := linkMarks(from, filepath.Join(t.Volume, string(GoMod)+nextSuffix)); err != nil {
		return err
	}
	for _, name := range []Name{GoBuild, GoMod} {
		if _, err := succeed(t.Volume, name); err != nil {
			return err
		}
	}
	return t.delete()
}

// startAnew discards Go's caches, if nobody uses them. They are not emptied in
// their place: a half-emptied one would be taken for a whole one, if this were
// cut off.
func (t *Tidying) startAnew() error {
	now := Time(t.Volume)
	for _, name := range []Name{GoBuild, GoMod} {
		dir, err := current(t.Volume, name)
		if err != nil {
			return err
		}
		err = os.RemoveAll(filepath.Join(t.Volume, string(name)+nextSuffix))
		if lock, lockErr := take(dir, now); lockErr == nil {
			err = errors.Join(err, discard(t.Volume, dir), lock.Close())
		}
		if err != nil {
			return err
		}
	}
	return emptyTrash(t.Volume)
}

func (t *Tidying) say() string {
	text := fmt.Sprintf("caches: %s; %s", t.usage, units.HumanSize(float64(t.usage.Bytes())))
	if t.Size > 0 {
		text += " of " + units.HumanSize(float64(t.Size))
	}
	if by := t.usage.ByRepository(); by != "" {
		text += ", written by " + by
	}
	if !t.since.IsZero() {
		text += "; removing " + units.HumanSize(float64(t.gone))
		if t.since.After(time.Unix(0, 0)) {
			text += " that no build has used since " + t.since.UTC().Format(time.DateTime)
		}
	}
	return text
}
