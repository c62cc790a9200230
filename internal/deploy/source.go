package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// source is the file system kustomize sees: the fetched source tree, read
// only, and nothing beyond it. A path that leads out of the tree, by ".." or
// through a symbolic link, is an error.
type source struct {
	// A build calls three of FileSystem's methods, those below. The others see
	// an empty file system in memory.
	filesys.FileSystem

	dir  string   // the tree's real path: absolute, no symbolic link in it
	tree *os.Root // dir, opened

	amended string // the one file that reads as content instead
	content []byte

	bytes int  // read so far
	pins  bool // a file that was read may name an image by digest
}

func openSource(dir string) (*source, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("open the source workspace: %w", err)
	}
	real, err = filepath.Abs(real)
	if err != nil {
		return nil, fmt.Errorf("open the source workspace: %w", err)
	}
	tree, err := os.OpenRoot(real)
	if err != nil {
		return nil, fmt.Errorf("open the source workspace: %w", err)
	}
	return &source{FileSystem: filesys.MakeFsInMemory(), dir: real, tree: tree}, nil
}

func (s *source) Close() error { return s.tree.Close() }

// ReadFile reads a file of the tree.
func (s *source) ReadFile(path string) ([]byte, error) {
	if path == s.amended {
		return s.content, nil
	}
	inside, err := s.inside(path)
	if err != nil {
		return nil, err
	}
	info, err := s.tree.Stat(inside)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSource-int64(s.bytes) {
		return nil, fmt.Errorf("%s: with it, more than %d MiB would be read", inside, maxSource>>20)
	}
	content, err := s.tree.ReadFile(inside)
	s.bytes += len(content)
	// In a manifest a digest follows an @, in a kustomization's images it stands alone.
	s.pins = s.pins || bytes.Contains(content, []byte("sha256:"))
	return content, err
}

// CleanedAbs resolves the symbolic links of path and splits it into folder and
// file; the file is "" for a folder.
func (s *source) CleanedAbs(path string) (filesys.ConfirmedDir, string, error) {
	real, info, err := s.resolve(path)
	switch {
	case err != nil:
		return "", "", err
	case info.IsDir():
		return filesys.ConfirmedDir(real), "", nil
	default:
		return filesys.ConfirmedDir(filepath.Dir(real)), filepath.Base(real), nil
	}
}

// IsDir reports whether path is a folder of the tree.
func (s *source) IsDir(path string) bool {
	_, info, err := s.resolve(path)
	return err == nil && info.IsDir()
}

// resolve is the real path of an existing file or folder inside the tree.
func (s *source) resolve(path string) (string, os.FileInfo, error) {
	if _, err := s.inside(path); err != nil {
		return "", nil, err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil, fmt.Errorf("%s: %w", s.name(path), errMissing)
	} else if err != nil {
		return "", nil, fmt.Errorf("%s: %w", s.name(path), err)
	}
	inside, err := s.inside(real)
	if err != nil {
		return "", nil, fmt.Errorf("%s is a symbolic link and %w", s.name(path), errLeaves)
	}
	info, err := s.tree.Stat(inside)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", s.name(path), err)
	}
	return real, info, nil
}

var (
	errMissing = errors.New("no such file or folder in the source")
	errLeaves  = errors.New("leads out of the source")
)

// inside is path relative to the tree, or an error if it is not below it.
func (s *source) inside(path string) (string, error) {
	rel, err := filepath.Rel(s.dir, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s %w", path, errLeaves)
	}
	return rel, nil
}

// name is how path is called in messages: relative to the tree.
func (s *source) name(path string) string {
	if inside, err := s.inside(path); err == nil {
		return inside
	}
	return path
}

// noise is what kustomize puts before the cause of an error: the steps it took
// to a base, and that it tried to read the base's folder as a file first.
var noise = regexp.MustCompile(`accumulating resources: (accumulation err='accumulating resources from '[^']*': read [^']*: is a directory': )?`)

// trim leaves of an error of kustomize's what concerns the source.
func (s *source) trim(err error) string {
	message := strings.ReplaceAll(err.Error(), s.dir+string(filepath.Separator), "")
	message = strings.ReplaceAll(message, s.dir, ".")
	return noise.ReplaceAllString(message, "")
}
