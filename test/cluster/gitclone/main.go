// Command gitclone is the step of the stand-in for the Tekton catalog's Task
// git-clone in test clusters. It has that Task's params and results; those it
// does not implement it refuses by name.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/step"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, envconfig.OsLookuper(), os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "git-clone:", err)
		os.Exit(step.ExitCode(err))
	}
}
