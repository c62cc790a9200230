package gocache

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/mod/module"
)

// SetFlock replaces the system call.
func SetFlock(f func(fd, how int) error) (restore func()) {
	was := flock
	flock = f
	return func() { flock = was }
}

// SetExchange replaces the system call.
func SetExchange(f func(one, other string) error) (restore func()) {
	was := exchange
	exchange = f
	return func() { exchange = was }
}

// SetHardLink replaces the system call.
func SetHardLink(f func(from, to string) error) (restore func()) {
	was := hardLink
	hardLink = f
	return func() { hardLink = was }
}

// Parts are what has to go with a version of a module, in order.
func Parts(goMod string, v module.Version) ([]string, error) {
	m, err := modVersionOf(goMod, v)
	if err != nil {
		return nil, err
	}
	return m.parts(), nil
}

// ReplaceEntry commits an empty entry in the place of what is there.
func ReplaceEntry(dir, name string) error {
	temporary, err := entries(dir).stage()
	if err != nil {
		return err
	}
	return entries(dir).commit(temporary, name, func() bool { return false })
}

// CheckBases is CheckAll of base images by another check. It returns how many
// are damaged.
func CheckBases(ctx context.Context, volume string, by func(context.Context, v1.Hash) error) (damaged int, err error) {
	report := make(chan Damage, 1)
	c := &check{volume: volume, report: report}
	suspects, err := c.entries(Bases, by)
	for _, suspect := range suspects {
		if err == nil {
			err = c.look(ctx, suspect)
		}
	}
	return len(report), err
}

// Beside is closed when what goes on beside the build has ended.
func (t *Tidying) Beside() <-chan struct{} { return t.beside }

// Excess says how many bytes and files may stay on a volume, if there are too
// many of either.
func Excess(size int64, heldBytes, heldFiles, total, free, files, freeFiles int64) (stayBytes, stayFiles int64, over bool) {
	stay, over := excess(size, Part{Bytes: heldBytes, Files: heldFiles}, space{total, free, files, freeFiles})
	return stay.Bytes, stay.Files, over
}

// Abandon is what a kill does.
func (u *Unfinished) Abandon() { _ = u.file.Close() }
