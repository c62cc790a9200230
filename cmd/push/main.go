// Command push is the last step of the Task slipway-build.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/push"
	"github.com/slipway-ci/slipway/internal/step"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := push.Run(ctx, os.Args[1:], envconfig.OsLookuper(), os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "push: %v\n", err)
	}
	os.Exit(step.ExitCode(err))
}
