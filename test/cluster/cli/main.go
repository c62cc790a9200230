// Command cli brings the test cluster up and down: `make cluster` and
// `make cluster-down`.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/slipway-ci/slipway/test/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if os.Getenv("KUBECONFIG") != "" {
		fmt.Fprintln(os.Stderr, "KUBECONFIG is set: that cluster is used, and no local one is touched")
		return nil
	}
	if len(args) == 1 && args[0] == "up" {
		return cluster.Up(ctx, os.Stderr)
	}
	if len(args) == 1 && args[0] == "down" {
		return cluster.Down(ctx, os.Stderr)
	}
	return fmt.Errorf("usage: cli up|down")
}
