package prepare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-ci/slipway/internal/step"
)

// source is what the user brings to a build.
type source struct {
	context    string // the folder, without symbolic links
	name       string // of the Dockerfile, in the source workspace
	dockerfile []byte
	ignore     []byte // a .dockerignore of the Dockerfile's own; nil for none
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
	ignore, err := readFile(root, name+".dockerignore")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, step.BadInput(fmt.Errorf("%s.dockerignore: %w", name, cause(err)))
	}
	return &source{context, name, content, ignore}, nil
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
