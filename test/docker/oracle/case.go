package oracle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Case is a build: a folder that is the context and has a Dockerfile, and what
// the file DIR.json beside it says, if there is one:
//
//	{"args": {"NAME": "value"}, "target": "stage", "params": {"ignore-var-run": "false"}}
type Case struct {
	Dir    string            `json:"-"`
	Args   map[string]string `json:"args"`
	Target string            `json:"target"`
	Params map[string]string `json:"params"` // more params of the task, none of them an array
}

// ReadCase reads what is said of the build of a folder.
func ReadCase(dir string) (Case, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Case{}, err
	}
	c := Case{Dir: dir}
	if _, err := os.Stat(filepath.Join(dir, "Dockerfile")); err != nil {
		return Case{}, fmt.Errorf("%w; a case is a folder with a Dockerfile", err)
	}
	content, err := os.ReadFile(dir + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return Case{}, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return Case{}, fmt.Errorf("%s.json: %w; it has args and params, objects of strings, and target", dir, err)
	}
	return c, nil
}

// sourceOwner is the user that the pipelines' fetch runs as.
const sourceOwner = 65532

// copyContext copies the context as a clone of it would be in a workspace: with
// its modes, links and times, and of another owner.
func (c Case) copyContext(ctx context.Context, to string) error {
	if output, err := exec.CommandContext(ctx, "cp", "-a", c.Dir, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the context: %w: %s", err, output)
	}
	return filepath.WalkDir(to, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if err := os.Lchown(path, sourceOwner, sourceOwner); err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) == 0 {
			return err
		}
		return os.Chmod(path, info.Mode()) // the kernel has taken these bits away
	})
}

// syntaxLine is the directive that names a front end, which could not be fetched.
var syntaxLine = regexp.MustCompile(`(?i)^\s*(#|//)\s*syntax\s*=`)

// copyDockerfile leaves the case's Dockerfile in a folder for BuildKit's own
// front end, with the ignore file that belongs to it alone.
func (c Case) copyDockerfile(to string) error {
	content, err := os.ReadFile(filepath.Join(c.Dir, "Dockerfile"))
	if err != nil {
		return err
	}
	var kept []string
	directives := true
	for line := range strings.Lines(string(content)) {
		directives = directives && strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(line, "\ufeff")), "#")
		if directives && syntaxLine.MatchString(line) {
			continue
		}
		kept = append(kept, line)
	}
	if err := os.WriteFile(filepath.Join(to, "Dockerfile"), []byte(strings.Join(kept, "")), 0o644); err != nil {
		return err
	}
	const own = "Dockerfile.dockerignore"
	content, err = os.ReadFile(filepath.Join(c.Dir, own))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, own), content, 0o644)
}
