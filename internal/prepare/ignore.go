package prepare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/slipway-ci/slipway/internal/buildcontext"
	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/step"
)

// readIgnore reads the first that exists: a Dockerfile's own replaces the
// context's. Where there is none it has no name.
func readIgnore(root *os.Root, names ...string) (name string, content []byte, err error) {
	for _, name := range names {
		content, err := readFile(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w; it must be a file inside the source workspace", name, cause(err))
		}
		return name, content, nil
	}
	return "", nil, nil
}

// openContext is the folder dir with an ignore file. What is wrong with that is
// a [step.BadInput] and a [dockerfile.Error]: kaniko would copy everything then.
func openContext(dir, name string, content []byte) (*buildcontext.Context, error) {
	context, err := buildcontext.Open(dir, content)
	if wrong := new(buildcontext.PatternError); errors.As(err, &wrong) {
		return nil, step.BadInput(&dockerfile.Error{Name: name, Line: wrong.Line, Problem: fmt.Sprintf("pattern %.200q: %v", wrong.Pattern, wrong.Err), Fix: "see https://docs.docker.com/build/concepts/context/#dockerignore-files"})
	}
	return context, err
}

// ignoreForKaniko is the file that makes kaniko (v1.27.5) leave out what these
// patterns do. kaniko holds a pattern against a path and against one folder
// above it, as deep as the pattern has names. That misses what lies in a folder
// that a pattern with ** matches, so a second pattern says it.
func ignoreForKaniko(patterns []string) []byte {
	var text strings.Builder
	for _, pattern := range patterns {
		bare := strings.TrimPrefix(pattern, "!")
		not := pattern[:len(pattern)-len(bare)]
		if strings.HasPrefix(bare, "#") {
			bare = "./" + bare // it would read as a comment
		}
		fmt.Fprintf(&text, "%s%s\n", not, bare)
		if strings.Contains(bare, "**") && path.Base(bare) != "**" {
			if suffix, ok := strings.CutPrefix(bare, "**"); ok && !strings.ContainsAny(suffix, `*?[\`) && suffix[0] != '/' {
				bare = "***" + suffix // "**.d" is any name that ends so, but only where nothing follows
			}
			fmt.Fprintf(&text, "%s%s/**\n", not, bare)
		}
	}
	return []byte(text.String())
}
