package gocache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Go's two caches cannot be trimmed in place. A go command finds an object, and
// reads it by its path later on: whatever is removed from under it fails the
// build, and no time since an object's last use makes that certain not to
// happen. So they have generations: go-build, go-build.1, go-build.2, …
//
//   - A build uses the current one, of the highest number, and holds it.
//   - To trim is to make the next one, from hard links to what is worth keeping.
//     It is made beside the builds, and becomes the current one by a rename.
//   - A generation that is not current any more gets no new builds. It goes
//     when it can be taken: when the last of its builds has ended.
//
// So nothing is removed that a build could be using, and what is current never
// shrinks; no build waits. A build that goes on in an old generation does as
// well there; what it adds is lost to later ones.

// nextSuffix names a generation that is being made. Whoever tidies the volume
// goes on with what another has left of it.
const nextSuffix = ".next"

// generations are the numbers of the folders of a cache, and the first that is
// higher than any.
func generations(volume string, name Name) (numbers []int, next int, err error) {
	entries, err := os.ReadDir(volume)
	if err != nil {
		return nil, 0, err
	}
	for _, entry := range entries {
		number, ok := generationOf(entry.Name(), name)
		if !ok {
			continue
		}
		next = max(next, number+1)
		if entry.IsDir() {
			numbers = append(numbers, number)
		}
	}
	return numbers, next, nil
}

func generationOf(file string, name Name) (number int, ok bool) {
	if file == string(name) {
		return 0, true
	}
	suffix, ok := strings.CutPrefix(file, string(name)+".")
	if !ok {
		return 0, false
	}
	number, err := strconv.Atoi(suffix)
	return number, err == nil && number > 0 && strconv.Itoa(number) == suffix
}

func generation(volume string, name Name, number int) string {
	if number == 0 {
		return filepath.Join(volume, string(name))
	}
	return filepath.Join(volume, fmt.Sprintf("%s.%d", name, number))
}

// current is the folder that a build is to use, whether or not it is there.
func current(volume string, name Name) (string, error) {
	numbers, _, err := generations(volume, name)
	if err != nil {
		return "", err
	}
	highest := 0
	for _, number := range numbers {
		highest = max(highest, number)
	}
	return generation(volume, name, highest), nil
}

// OpenHeld is [Open] of one of Go's caches, and holds its folder.
func OpenHeld(volume string, name Name, minFree int64) (*Held, error) {
	for {
		dir, err := Open(volume, name, minFree)
		if err != nil {
			return nil, err
		}
		held, err := Hold(dir)
		if err == nil {
			if err = filesLock(dir); err != nil {
				err = errors.Join(err, held.Release())
				held = nil
			}
		}
		if errors.Is(err, ErrNoLocks) {
			return nil, fmt.Errorf("%s: %w, and go commands need them", volume, ErrNoLocks)
		}
		// From its becoming held no generation goes, but it may have gone, or
		// stopped to be the current one, before that.
		now, currentErr := current(volume, name)
		switch {
		case currentErr != nil:
			return nil, errors.Join(err, currentErr, held.Release())
		case now == dir && err == nil:
			return held, nil
		case now == dir && !errors.Is(err, errGone):
			return nil, err
		}
		if err := held.Release(); err != nil {
			return nil, err
		}
	}
}

// retire discards the generations that are neither current nor used.
func retire(volume string, name Name, now time.Time) error {
	numbers, _, err := generations(volume, name)
	if err != nil {
		return err
	}
	inUse, err := current(volume, name)
	if err != nil {
		return err
	}
	for _, number := range numbers {
		dir := generation(volume, name, number)
		if dir == inUse {
			continue
		}
		lock, err := take(dir, now)
		if err != nil {
			continue // later
		}
		err = errors.Join(discard(volume, dir), lock.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

// staged opens the folder of the next generation, which may have a part of what
// it is to have.
func staged(volume string, name Name) (string, error) {
	dir := filepath.Join(volume, string(name)+nextSuffix)
	return dir, ready(dir, name)
}

// nextOf is where the next generation is made of the one in dir.
func nextOf(dir string) string {
	base, _, _ := strings.Cut(filepath.Base(dir), ".")
	return filepath.Join(filepath.Dir(dir), base+nextSuffix)
}

// succeed makes the staged folder the current one.
func succeed(volume string, name Name) (string, error) {
	_, next, err := generations(volume, name)
	if err != nil {
		return "", err
	}
	dir := generation(volume, name, max(next, 1))
	err = os.Rename(filepath.Join(volume, string(name)+nextSuffix), dir)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s came into being at this moment", dir)
	}
	return dir, err
}
