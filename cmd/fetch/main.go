// Command fetch is the step of Task slipway-fetch.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/fetch"
	"github.com/slipway-ci/slipway/internal/step"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := fetch.Run(ctx, envconfig.OsLookuper(), os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(step.ExitCode(err))
	}
}
