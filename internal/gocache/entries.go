package gocache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// entries is a folder of folders that are each named by a digest. An entry is
// complete or absent at every instant, whoever else uses the folder and
// whenever they are killed.
type entries string

const (
	staging    = ".staging-"         // how a folder is named that is not an entry yet, or no longer
	staleAfter = 24 * time.Hour      // a staging folder that old was left by a killed run
	keepFor    = 14 * 24 * time.Hour // since an entry's last use
)

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
// another run may have made it by now, stays.
func (e entries) commit(temporary, name string) error {
	err := os.Rename(temporary, filepath.Join(string(e), name))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// touch counts as a use of the entry name.
func (e entries) touch(name string) error {
	now := time.Now()
	return os.Chtimes(filepath.Join(string(e), name), now, now)
}

// remove renames first, so that a half-removed entry is never read as one.
func (e entries) remove(name string) error {
	aside, err := os.MkdirTemp(string(e), staging)
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(string(e), name), filepath.Join(aside, "entry")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.RemoveAll(aside))
	}
	return os.RemoveAll(aside)
}

// trim removes the entries that were not used for two weeks, and what killed
// runs have left. It returns how many entries it removed.
func (e entries) trim(now time.Time) (int, error) {
	found, err := os.ReadDir(string(e))
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, entry := range found {
		info, err := entry.Info()
		if err != nil {
			continue // gone by now
		}
		age := now.Sub(info.ModTime())
		switch _, err := v1.NewHash(entry.Name()); {
		case err == nil && age > keepFor:
			if err := e.remove(entry.Name()); err != nil {
				return removed, err
			}
			removed++
		case strings.HasPrefix(entry.Name(), staging) && age > staleAfter:
			if err := os.RemoveAll(filepath.Join(string(e), entry.Name())); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}
