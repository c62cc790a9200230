// Command gitserver stands in for GitHub in test clusters: it serves bare
// repositories over HTTP, to anyone but those below private/, creates them on
// the first push, and sends a push event of GitHub's shape for every ref a push
// changes.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sethvargo/go-envconfig"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/internal/step"
)

// Config is read from the environment.
type Config struct {
	Addr          string   `env:"ADDR, default=:8080"`
	Root          string   `env:"ROOT, required"`         // directory of bare repositories
	ExternalURL   string   `env:"EXTERNAL_URL, required"` // what clone_url starts with
	WebhookURLs   []string `env:"WEBHOOK_URL"`            // comma-separated
	WebhookSecret string   `env:"WEBHOOK_SECRET"`         // signs every delivery
	PrivateLogin  string   `env:"PRIVATE_LOGIN"`          // USER:PASSWORD, to fetch what is below private/
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gitserver:", err)
		os.Exit(step.ExitCode(err))
	}
}

func run(ctx context.Context) error {
	var config Config
	if err := step.Load(ctx, &config, envconfig.OsLookuper()); err != nil {
		return err
	}
	hooks := newHooks(config, os.Stderr)
	server := &http.Server{
		Addr:              config.Addr,
		Handler:           newHandler(config, hooks, os.Stderr),
		ReadHeaderTimeout: 10 * time.Second,
	}
	fmt.Fprintf(os.Stderr, "serving %s on %s, push events go to %q\n", config.Root, config.Addr, config.WebhookURLs)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", config.Addr, err)
		}
		return nil
	})
	group.Go(func() error {
		hooks.deliver(ctx)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}
