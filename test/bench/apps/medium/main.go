// Command pod-board shows the pods of a namespace: the benchmarks' app of
// medium size, an HTTP service on client-go.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"pod-board/internal/api"
	"pod-board/internal/inventory"
	"pod-board/internal/page"
)

// banner heads every answer.
const banner = "pod-board: what runs here"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Outside of a cluster, or without the right to list pods, the board is
	// empty.
	pods := inventory.New()
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", page.Handler(banner, pods))
	mux.Handle("GET /api/items", api.Handler(banner, pods))
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(stopping)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		slog.Error("serve", "error", err)
		os.Exit(1)
	}
}
