package operation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	continuity "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"
)

// overlay puts the files of the folder upper over those of the folder lower, as
// the layers of an image are put over each other: a folder takes the upper's
// owner and mode, and whatever else is there is replaced. Names of one file stay
// names of one file. stage knows what of lower is in the container alone: that
// stays as it is, and to replace a folder with such a thing in it is an error.
func overlay(upper, lower string, stage *keeper) error {
	moved := map[uint64]string{} // files with several names, by inode, to the first
	return filepath.WalkDir(upper, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == upper {
			return err
		}
		at := strings.TrimPrefix(name, upper)
		if entry.IsDir() && stage.isHidden(at) {
			return filepath.SkipDir
		}
		target := filepath.Join(lower, at)
		there, err := os.Lstat(target)
		if err != nil && !missing(err) {
			return err
		}
		if entry.IsDir() {
			if there != nil && !there.IsDir() {
				if err := os.Remove(target); err != nil {
					return err
				}
				there = nil
			}
			if there == nil {
				if err := os.Mkdir(target, 0o755); err != nil {
					return err
				}
			}
			return sameMetadata(name, target)
		}
		if there != nil {
			if there.IsDir() && stage.holds(at) {
				return fmt.Errorf("%s: kaniko's container has a mount or a cache in this folder, so a file cannot take its place", at)
			}
			if err := os.RemoveAll(target); err != nil {
				return err
			}
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
			if first, ok := moved[stat.Ino]; ok {
				return os.Link(first, target)
			}
			moved[stat.Ino] = target
		}
		return moveFile(name, target, entry)
	})
}

// moveFile moves a file that is no folder, to another file system if need be.
func moveFile(from, to string, entry fs.DirEntry) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	if entry.Type()&fs.ModeSymlink != 0 {
		link, err := os.Readlink(from)
		if err == nil {
			err = os.Symlink(link, to)
		}
		if err != nil {
			return err
		}
		return sameOwner(from, to)
	}
	if !entry.Type().IsRegular() { // to open a named pipe is to wait for who writes to it
		var stat unix.Stat_t
		if err := unix.Lstat(from, &stat); err != nil {
			return err
		}
		if err := unix.Mknod(to, stat.Mode, int(stat.Rdev)); err != nil { //nolint:gosec // a device's number
			return err
		}
		return sameMetadata(from, to)
	}
	if err := continuity.CopyFile(to, from); err != nil {
		return err
	}
	return sameMetadata(from, to)
}

func sameOwner(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	uid, gid := ids(info)
	return os.Lchown(to, uid, gid)
}

// sameMetadata gives to the owner, the mode, the times and the extended
// attributes of from. Neither is a link.
func sameMetadata(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	uid, gid := ids(info)
	// The mode after the owner, which takes special bits away.
	return errors.Join(os.Lchown(to, uid, gid), os.Chmod(to, info.Mode()), copyXAttrs(from, to), os.Chtimes(to, info.ModTime(), info.ModTime()))
}
