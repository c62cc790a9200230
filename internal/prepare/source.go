package prepare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/step"
)

// source is what the user brings to a build.
type source struct {
	context    string // the folder, without symbolic links
	name       string // of the Dockerfile, in the source workspace
	dockerfile []byte
	ignore     *ignore // nil for none
}

// readSource finds context and Dockerfile in the source workspace. Neither may
// leave it, by ".." or by a symbolic link. Errors are a [step.BadInput].
func readSource(c *Config) (*source, error) {
	root, err := os.OpenRoot(c.Source)
	if err != nil {
		return nil, step.BadInput(fmt.Errorf("workspace source: %w", err))
	}
	defer root.Close()

	info, err := root.Stat(c.Context)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, step.BadInput(fmt.Errorf("no build context: the source workspace has no folder %s; set the param context", c.Context))
	case err != nil:
		return nil, step.BadInput(fmt.Errorf("param context: %s: %w; it must name a folder inside the source workspace", c.Context, cause(err)))
	case !info.IsDir():
		return nil, step.BadInput(fmt.Errorf("param context: %s is not a folder of the source workspace", c.Context))
	}
	context, err := filepath.EvalSymlinks(filepath.Join(c.Source, c.Context))
	if err != nil {
		return nil, fmt.Errorf("build context %s: %w", c.Context, err)
	}

	if strings.Contains(c.Dockerfile, "://") {
		return nil, step.BadInput(fmt.Errorf("param dockerfile: %s is not a file in the source workspace; URLs are not read", c.Dockerfile))
	}
	name := filepath.Join(c.Context, c.Dockerfile)
	content, err := readFile(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, step.BadInput(fmt.Errorf("no Dockerfile: the source workspace has no file %s; set the params context and dockerfile", name))
	case err != nil:
		return nil, step.BadInput(fmt.Errorf("param dockerfile: %s: %w; it must name a file inside the source workspace", name, cause(err)))
	}
	ignore, err := readIgnore(root, name+".dockerignore", filepath.Join(c.Context, ".dockerignore"))
	if err != nil {
		return nil, step.BadInput(err)
	}
	return &source{context, name, content, ignore}, nil
}

// readIgnore reads the first that exists: a Dockerfile's own replaces the
// context's.
func readIgnore(root *os.Root, names ...string) (*ignore, error) {
	for _, name := range names {
		content, err := readFile(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w; it must be a file inside the source workspace", name, cause(err))
		}
		return parseIgnore(name, content)
	}
	return nil, nil
}

// check finds what is wrong with a path of the build context, as COPY names it.
// It is what [dockerfile.Options].Source wants.
func (s *source) check(name string) *dockerfile.SourceError {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	root, err := os.OpenRoot(s.context)
	if err != nil {
		return &dockerfile.SourceError{Problem: err.Error()}
	}
	defer root.Close()
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &dockerfile.SourceError{Problem: "the build context has no such file or folder", Fix: "add it, or set the param context to the folder that has it"}
	case err != nil:
		return &dockerfile.SourceError{Problem: cause(err).Error(), Fix: "a symbolic link on the way leads out of the build context: put the files themselves there"}
	}
	if line := s.ignore.excludes(name); line > 0 && (!info.IsDir() || !s.ignore.hasExceptions()) {
		return &dockerfile.SourceError{Problem: fmt.Sprintf("%s:%d leaves it out of the build context", s.ignore.name, line), Fix: "add a line !" + name + " at its end"}
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if _, err := root.Stat(name); err != nil {
			return &dockerfile.SourceError{Problem: "it is a symbolic link to what is not in the build context", Fix: "put the file itself there"}
		}
		return &dockerfile.SourceError{Problem: "kaniko copies the symbolic link and not what it leads to", Bearable: true}
	}
	return nil
}

// has reports whether the build context has a file of that name, or one in a
// folder of it, that .dockerignore does not leave out. It is what
// [dockerfile.Options].Has wants.
func (s *source) has(name string) bool {
	root, err := os.OpenRoot(s.context)
	if err != nil {
		return false // check has said so
	}
	defer root.Close()
	found := false
	_ = fs.WalkDir(root.FS(), name, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what is not there or cannot be read is not copied
		case entry.IsDir() && s.leftOut(name):
			return fs.SkipDir
		case entry.IsDir() || s.ignore.excludes(name) > 0:
			return nil
		}
		found = true
		return fs.SkipAll
	})
	return found
}

func readFile(root *os.Root, name string) ([]byte, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return root.ReadFile(name)
}

// cause is err without the path and the system call's name, which the message
// around it has in the user's terms.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
