// Package checkcache looks for what is damaged on a cache volume.
package checkcache

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/step"
)

// Config is what the Task tells the step.
type Config struct {
	Cache string `env:"WORKSPACE_CACHE_PATH, required"`
}

// Run reads the whole volume and takes away what is damaged. That something
// was is no error: the next build makes it anew.
func Run(ctx context.Context, env envconfig.Lookuper, log io.Writer) error {
	var config Config
	if err := step.Load(ctx, &config, env); err != nil {
		return err
	}
	started := time.Now()
	damaged := 0
	read, err := gocache.CheckAll(ctx, config.Cache, func(d gocache.Damage) {
		damaged++
		fmt.Fprintf(log, "%s is damaged and was removed: %v\n", d.Path, d.Problem)
	})
	fmt.Fprintf(log, "cache: %d entries read, %d damaged, %.1f s\n", read, damaged, time.Since(started).Seconds())
	if err != nil {
		return fmt.Errorf("check the workspace cache: %w", err)
	}
	return nil
}
