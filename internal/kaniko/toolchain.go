package kaniko

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/slipway-ci/slipway/internal/plan"
)

// setUpToolchain makes a Go that looks like the image's own. Go finds its root
// from where its program is, with links resolved: so the programs are copies,
// and the root has its usual name in all that Go yields. go.env is another
// than the tree's, and comes with the plan's files.
func setUpToolchain(t *plan.Toolchain) error {
	entries, err := os.ReadDir(t.Tree)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(t.Path, 0o755); err != nil {
		return err
	}
	for _, entry := range entries {
		from, to := filepath.Join(t.Tree, entry.Name()), filepath.Join(t.Path, entry.Name())
		switch entry.Name() {
		case "go.env":
		case "bin":
			if err := copyPrograms(from, to); err != nil {
				return err
			}
		default:
			if err := os.Symlink(from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyPrograms(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		copied := to + path[len(from):]
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			return os.MkdirAll(copied, info.Mode().Perm())
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, copied)
		}
		return copyFile(path, copied, info.Mode())
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, source)
	return errors.Join(err, file.Chmod(mode), file.Close())
}
