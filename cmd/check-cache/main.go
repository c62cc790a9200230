// Command check-cache is the step of Task slipway-check-cache.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/checkcache"
	"github.com/slipway-ci/slipway/internal/step"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := checkcache.Run(ctx, envconfig.OsLookuper(), os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "check-cache:", err)
		os.Exit(step.ExitCode(err))
	}
}
