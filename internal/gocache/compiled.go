package gocache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxActionGraph bounds what is read of an action graph: about 500 bytes an
// action, and the largest modules have some ten thousand packages.
const maxActionGraph = 32 << 20

// Compiled is how many packages a go command compiled and how many it took
// from its cache.
type Compiled struct{ Compiled, Cached int }

// ReadCompiled counts the packages in an action graph, the file that
// `go build -debug-actiongraph` writes (an undocumented format:
// actionJSON in cmd/go/internal/work/action.go). It covers one go command, the
// last that wrote the file. Any program of the build can have written it, so
// an error, and no count, is the answer to whatever looks wrong.
func ReadCompiled(r io.Reader) (Compiled, error) {
	limited := &io.LimitedReader{R: r, N: maxActionGraph}
	decoder := json.NewDecoder(limited)
	var count Compiled
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return Compiled{}, errors.New("the action graph is no JSON array")
	}
	for decoder.More() {
		var action struct {
			Mode   string
			Cmd    []string
			Failed bool
		}
		if err := decoder.Decode(&action); err != nil {
			if limited.N == 0 {
				return Compiled{}, fmt.Errorf("the action graph is over %d bytes", maxActionGraph)
			}
			return Compiled{}, fmt.Errorf("the action graph: %w", err)
		}
		switch {
		case action.Mode != "build" || action.Failed:
		case len(action.Cmd) > 0:
			count.Compiled++
		default:
			count.Cached++
		}
	}
	if _, err := decoder.Token(); err != nil {
		return Compiled{}, errors.New("the action graph is cut off")
	}
	if count == (Compiled{}) {
		return Compiled{}, errors.New("the action graph names no package")
	}
	return count, nil
}
