// Command feed-agg reads RSS, Atom and JSON feeds and serves their items
// merged, newest first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// banner heads the page and every answer of /api/items.
const banner = "feed-agg: all feeds, newest first"

// drain is how long requests under way may take after a signal to stop. It is
// shorter than Kubernetes' default grace period of 30 s.
const drain = 20 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "feed-agg:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("feed-agg", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "/etc/feed-agg/conf.yaml", "configuration `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conf, err := readConfig(*path)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	// The socket is open before the first fetch, since feed-agg may read a feed
	// that it serves itself.
	listener, err := net.Listen("tcp", conf.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", conf.Listen, err)
	}
	log.Info("listening", "address", listener.Addr().String(), "feeds", len(conf.Feeds))

	registry := prometheus.NewRegistry()
	feeds := newAggregator(conf.Feeds, &http.Client{Timeout: time.Duration(conf.Timeout)}, log, registry)
	server := &http.Server{Handler: newHandler(feeds, registry), ReadHeaderTimeout: 10 * time.Second}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", conf.Listen, err)
		}
		return nil
	})
	group.Go(func() error {
		feeds.keepFresh(ctx, time.Duration(conf.Refresh))
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := server.Shutdown(stopping); err != nil {
			return fmt.Errorf("finish the requests under way: %w", err)
		}
		return nil
	})
	return group.Wait()
}
