package kaniko

import (
	"encoding/json"
	"io"
	"maps"
	"regexp"
	"slices"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// lookups passes a log on, and notes the keys for which kaniko says that it
// looks into its layer cache.
type lookups struct {
	out  io.Writer
	line []byte // the start of one
	keys map[string]bool
}

// lookup is what kaniko says (pkg/cache/cache.go, RetrieveLayer).
var lookup = regexp.MustCompile(`Checking for cached layer oci:\S+:([0-9a-f]{64})\.\.\.`)

// maxLine is more than the line of a lookup has.
const maxLine = 4096

func (l *lookups) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			if match := lookup.FindSubmatch(l.line); match != nil {
				l.keys[string(match[1])] = true
			}
			l.line = l.line[:0]
		} else if len(l.line) < maxLine {
			l.line = append(l.line, b)
		}
	}
	return l.out.Write(p)
}

// leave says what kaniko looked up, for the step push. Where it said nothing,
// as at another verbosity, there is no file.
func (l *lookups) leave(layers *plan.Layers) error {
	if layers == nil || len(l.keys) == 0 {
		return nil
	}
	content, err := json.Marshal(slices.Sorted(maps.Keys(l.keys)))
	if err != nil {
		return err
	}
	return step.WriteFile(layers.Used, content, 0o644)
}
