// Command prepare is the first step of the Task slipway-build. It leaves a
// copy of itself for the second, which runs in kaniko's image and calls it as
// "prepare run-kaniko". There RUN instructions of the derived Dockerfile call it
// as "prepare operation", and go commands may call it as "prepare go-cache".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/cacheprog"
	"github.com/slipway-ci/slipway/internal/kaniko"
	"github.com/slipway-ci/slipway/internal/operation"
	"github.com/slipway-ci/slipway/internal/prepare"
	"github.com/slipway-ci/slipway/internal/step"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if len(os.Args) >= 4 && os.Args[1] == "operation" {
		os.Exit(operation.Main(ctx, os.Args[2], os.Args[3:], os.Stdout, os.Stderr))
	}
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, kaniko.ErrFailed) { // it has been said why
		fmt.Fprintf(os.Stderr, "prepare: %v\n", err)
	}
	os.Exit(step.ExitCode(err))
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "run-kaniko":
		return kaniko.Run(ctx, envconfig.OsLookuper(), os.Stdout, os.Stderr)
	case len(args) == 2 && args[0] == "go-cache":
		// Until the go command ends it, whatever signals reach them both.
		return cacheprog.Serve(os.Getenv("GOCACHE"), args[1], os.Stdin, os.Stdout)
	}
	host, err := prepare.ThisHost()
	if err != nil {
		return err
	}
	return prepare.Run(ctx, host, args, envconfig.OsLookuper(), os.Stderr)
}
