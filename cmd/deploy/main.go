// Command deploy is the one step of the Task slipway-deploy: it renders a
// kustomize overlay with the built images in it, applies it and waits until it
// is rolled out. Its arguments are the images, its environment is described by
// tasks/deploy.yaml.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/deploy"
	"github.com/slipway-ci/slipway/internal/step"
)

func main() {
	// It lives for seconds: most of what it leaves behind is never worth
	// collecting. Above the limit, half of the Task's, it is.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(256 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := deploy.Run(ctx, os.Args[1:], envconfig.OsLookuper(), os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
	}
	os.Exit(step.ExitCode(err))
}
