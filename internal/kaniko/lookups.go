package kaniko

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// lookups are the keys for which kaniko says that it looks into its layer
// cache.
type lookups struct{ keys map[string]bool }

// lookup is what kaniko says (pkg/cache/cache.go, RetrieveLayer).
var lookup = regexp.MustCompile(`Checking for cached layer oci:\S+:([0-9a-f]{64})\.\.\.`)

func (l *lookups) see(line []byte) {
	if match := lookup.FindSubmatch(line); match != nil {
		l.keys[string(match[1])] = true
	}
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
