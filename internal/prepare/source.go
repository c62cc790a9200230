package prepare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	continuity "github.com/containerd/continuity/fs"

	"github.com/slipway-ci/slipway/internal/buildcontext"
	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/step"
)

// source is what the user brings to a build.
type source struct {
	context    *buildcontext.Context
	name       string // of the Dockerfile, in the source workspace
	dockerfile []byte
	ignore     string // the ignore file's name there, "" for none
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
	ignore, patterns, err := readIgnore(root, name+".dockerignore", filepath.Join(c.Context, ".dockerignore"))
	if err != nil {
		return nil, step.BadInput(err)
	}
	context, err := openContext(filepath.Join(c.Source, c.Context), ignore, patterns)
	if err != nil {
		return nil, err
	}
	return &source{context, name, content, ignore}, nil
}

// check finds what is wrong with a path of the build context, as COPY names it.
// It is what [dockerfile.Options].Source wants.
func (s *source) check(name string) *dockerfile.SourceError {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	root, err := os.OpenRoot(s.context.Dir())
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
	behind, err := s.resolve(name)
	if err != nil {
		return &dockerfile.SourceError{Problem: err.Error()}
	}
	if _, err := os.Lstat(filepath.Join(s.context.Dir(), behind)); err != nil && info.Mode().Type() == fs.ModeSymlink {
		return &dockerfile.SourceError{Problem: "it is a symbolic link to what is not in the build context", Fix: "put the file itself there"}
	}
	for _, name := range []string{name, behind} {
		if line := s.context.Line(name); line > 0 && (!info.IsDir() || !s.context.Has(name)) {
			return &dockerfile.SourceError{Problem: fmt.Sprintf("%s:%d leaves it out of the build context", s.ignore, line), Fix: "add a line !" + name + " at its end"}
		}
	}
	return nil
}

// has reports whether the build context has a file of that name, or one in a
// folder of it, that .dockerignore does not leave out. It is what
// [dockerfile.Options].Has wants.
func (s *source) has(name string) bool {
	at, err := s.resolve(name)
	if err != nil || at != name && s.context.Line(name) > 0 {
		return false
	}
	found := false
	err = s.context.Walk(context.Background(), at, func(e buildcontext.Entry) error {
		if e.Mode.IsDir() {
			return nil
		}
		found = true
		return fs.SkipAll
	})
	return err == nil && found // what cannot be read is not copied
}

// resolve is the path of the build context that name leads to. Symbolic links
// are followed as BuildKit does: the context's folder is the root for them.
func (s *source) resolve(name string) (string, error) {
	at, err := continuity.RootPath(s.context.Dir(), name)
	if err != nil {
		return "", err
	}
	return filepath.Rel(s.context.Dir(), at)
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
