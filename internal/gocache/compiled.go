package gocache

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Of what go commands say about themselves: about 500 bytes an action, and the
// largest modules have some ten thousand packages.
const (
	maxActionGraphs = 256 << 20
	maxActions      = 200_000
)

// Compiled is how many packages go commands compiled and how many they took
// from their cache.
type Compiled struct {
	Compiled int `json:"compiled"`
	Cached   int `json:"cached"`
}

// ReadCompiled counts the packages in action graphs, one after the other: what
// `go build -debug-actiongraph` writes when it starts and again when it ends
// (an undocumented format: actionJSON in cmd/go/internal/work/action.go). A
// package that several go commands need counts once, and as compiled if one of
// them compiled it. Any program of the build can have written there, so an
// error, and no count, is the answer to whatever looks wrong.
func ReadCompiled(r io.Reader) (Compiled, error) {
	limited := &io.LimitedReader{R: r, N: maxActionGraphs}
	decoder := json.NewDecoder(bufio.NewReader(limited))
	compiled := map[string]bool{} // by the action's own hash
	for {
		token, err := decoder.Token()
		switch {
		case errors.Is(err, io.EOF) && limited.N > 0:
			return count(compiled)
		case err != nil || token != json.Delim('['):
			return Compiled{}, errors.New("the action graph is no JSON array")
		}
		for decoder.More() {
			var action struct {
				Mode     string
				ActionID string
				Cmd      []string
				Failed   bool
			}
			if err := decoder.Decode(&action); err != nil {
				return Compiled{}, fmt.Errorf("the action graph: %w", err)
			}
			if action.Mode == "build" && action.ActionID != "" && !action.Failed {
				compiled[action.ActionID] = compiled[action.ActionID] || len(action.Cmd) > 0
			}
			if len(compiled) > maxActions {
				return Compiled{}, fmt.Errorf("the action graphs name over %d packages", maxActions)
			}
		}
		if _, err := decoder.Token(); err != nil {
			return Compiled{}, errors.New("the action graph is cut off")
		}
	}
}

func count(compiled map[string]bool) (Compiled, error) {
	var total Compiled
	for _, ran := range compiled {
		if ran {
			total.Compiled++
		} else {
			total.Cached++
		}
	}
	if total == (Compiled{}) {
		return Compiled{}, errors.New("no go command left an account")
	}
	return total, nil
}
