// Package cleanup removes the source of a run from the claim it was fetched to.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/step"
)

// Config is what the Task tells the step.
type Config struct {
	Runs      string        `env:"WORKSPACE_RUNS_PATH, required"` // one directory a run
	Name      string        `env:"PARAM_NAME, required"`          // the run to remove
	OlderThan time.Duration `env:"PARAM_OLDER_THAN"`              // other runs untouched for that long are removed too; 0 keeps them
}

// Run removes the run's directory, and what runs that were killed left behind.
// It returns as soon as ctx is done: what is left then, the next cleanup
// removes.
func Run(ctx context.Context, env envconfig.Lookuper, log io.Writer) error {
	var config Config
	if err := step.Load(ctx, &config, env); err != nil {
		return err
	}
	if config.OlderThan < 0 {
		return step.BadInput(fmt.Errorf("param older-than is %s: give a duration such as 24h, or 0 to keep the sources of other runs", config.OlderThan))
	}
	// Removing files cannot be interrupted, so it is left behind instead.
	done := make(chan error, 1)
	go func() { done <- clean(ctx, config, log) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("remove run %s: stopped before the end, the next run's cleanup removes the rest: %w", config.Name, context.Cause(ctx))
	}
}

func clean(ctx context.Context, config Config, log io.Writer) error {
	// One path component that names something inside. Anything else would reach
	// the cache beside the runs, or the runs of others.
	if config.Name == "." || !filepath.IsLocal(config.Name) || filepath.Base(config.Name) != config.Name {
		return step.BadInput(fmt.Errorf("param name is %q: give the name of one directory of workspace runs", config.Name))
	}
	// A root cannot be left through "..", nor through a link that was in the
	// source: what a repository contains decides nothing outside of its run.
	root, err := os.OpenRoot(config.Runs)
	if err != nil {
		return fmt.Errorf("open workspace runs: %w", err)
	}
	defer root.Close()
	switch _, err := root.Lstat(config.Name); {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(log, "run %s has left nothing\n", config.Name)
	case err != nil:
		return fmt.Errorf("remove run %s: %w", config.Name, err)
	default:
		if err := root.RemoveAll(config.Name); err != nil {
			return fmt.Errorf("remove run %s: %w", config.Name, err)
		}
		fmt.Fprintf(log, "removed run %s\n", config.Name)
	}
	if config.OlderThan > 0 {
		sweep(ctx, root, config.OlderThan, log)
	}
	return nil
}

// sweep removes the runs that nobody will clean up any more: a run that is
// cancelled for good has no finally. Their sources are in nobody's way, so what
// cannot be removed is only reported.
func sweep(ctx context.Context, root *os.Root, olderThan time.Duration, log io.Writer) {
	runs, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		fmt.Fprintf(log, "warning: look for the sources of older runs: %v\n", err)
		return
	}
	for _, run := range runs {
		if ctx.Err() != nil {
			return
		}
		info, err := run.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // another cleanup was faster
		}
		if err == nil && time.Since(info.ModTime()) < olderThan {
			continue
		}
		if err == nil {
			err = root.RemoveAll(run.Name())
		}
		if err != nil {
			fmt.Fprintf(log, "warning: remove run %s, left by a run that was killed: %v\n", run.Name(), err)
			continue
		}
		fmt.Fprintf(log, "removed run %s, untouched since %s\n", run.Name(), info.ModTime().UTC().Format(time.RFC3339))
	}
}
