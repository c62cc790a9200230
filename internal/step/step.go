// Package step is what every Slipway step binary shares: its configuration
// comes from the environment, its values leave through Tekton result files, and
// its exit code says what kind of failure it was.
package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sethvargo/go-envconfig"
)

// Exit codes of every step binary.
const (
	ExitFailed   = 1 // the work itself failed
	ExitBadInput = 3 // a param, a workspace or a file of the user's is wrong: a retry will fail the same way
	ExitNotReady = 4 // deploy only: everything was applied, but did not become ready in time
)

// MaxResult is the most bytes a step writes into one result. Tekton's limit is
// 4096 bytes for all results of a container, and 12 KiB shared by all of a
// pod's containers
// (https://tekton.dev/docs/pipelines/tasks/#larger-results-using-sidecar-logs).
const MaxResult = 1024

// MaxReport and MaxNames are the most bytes of the step push's results: of
// build-report, and of all others, the image's names, together.
const (
	MaxReport = 512
	MaxNames  = 1024
)

type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// BadInput marks err as the user's to mend: the step exits with [ExitBadInput].
// BadInput(nil) is nil.
func BadInput(err error) error { return coded(ExitBadInput, err) }

// NotReady marks err as applied but not ready: the step exits with
// [ExitNotReady]. NotReady(nil) is nil.
func NotReady(err error) error { return coded(ExitNotReady, err) }

func coded(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

// ExitCode is the exit code for err: 0 for nil, the code of [BadInput] or
// [NotReady] where one of them is in err's chain, and [ExitFailed] otherwise.
func ExitCode(err error) int {
	var c *codedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &c):
		return c.code
	default:
		return ExitFailed
	}
}

// Load fills config, a pointer to a struct with go-envconfig tags, from env.
// A variable that is set to "" counts as not set: a Task sets the variable of
// each of its params, and an empty param must mean its default (or, for one
// that is required, an error). The error is a [BadInput].
func Load(ctx context.Context, config any, env envconfig.Lookuper) error {
	err := envconfig.ProcessWith(ctx, &envconfig.Config{Target: config, Lookuper: nonEmpty{env}})
	if err != nil {
		return BadInput(fmt.Errorf("read the step's environment: %w", err))
	}
	return nil
}

type nonEmpty struct{ envconfig.Lookuper }

func (l nonEmpty) Lookup(key string) (string, bool) {
	value, ok := l.Lookuper.Lookup(key)
	return value, ok && value != ""
}

// WriteResult writes value as the Tekton result at path. An empty path means
// that nobody asked for the result. The file is complete or absent at every
// instant, and value has no trailing newline, since Tekton would pass it on.
func WriteResult(path, value string) error {
	if path == "" {
		return nil
	}
	if len(value) > MaxResult {
		return fmt.Errorf("write result %s: it has %d bytes, the limit is %d", filepath.Base(path), len(value), MaxResult)
	}
	if err := WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("write result %s: %w", filepath.Base(path), err)
	}
	return nil
}

// WriteFile writes a file that is complete or as it was before at every
// instant: beside it first, then renamed over it.
func WriteFile(path string, content []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Chmod(mode); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
