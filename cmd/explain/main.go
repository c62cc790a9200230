// Command explain is the step of Task slipway-explain.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sethvargo/go-envconfig"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/slipway-ci/slipway/internal/explain"
	"github.com/slipway-ci/slipway/internal/step"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := explain.Run(ctx, envconfig.OsLookuper(), connect, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "explain:", err)
		os.Exit(step.ExitCode(err))
	}
}

func connect() (dynamic.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	return dynamic.NewForConfig(config)
}
