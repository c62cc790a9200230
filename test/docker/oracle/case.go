package oracle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Case is a build: a folder that is the context and has a Dockerfile, and what
// the file DIR.json beside it says, if there is one:
//
//	{"args": {"NAME": "value"}, "target": "stage"}
type Case struct {
	Dir    string            `json:"-"`
	Args   map[string]string `json:"args"`
	Target string            `json:"target"`
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
		return Case{}, fmt.Errorf("%s.json: %w; it has args, an object of strings, and target", dir, err)
	}
	return c, nil
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
