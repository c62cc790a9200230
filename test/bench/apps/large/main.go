// Command run-board checks pipelines: the benchmarks' large app, an HTTP
// service upon Tekton's own packages, over 1,500 of them with what they need.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	_ "github.com/tektoncd/pipeline/pkg/reconciler/pipelinerun"
	_ "github.com/tektoncd/pipeline/pkg/reconciler/taskrun"
	_ "github.com/tektoncd/pipeline/pkg/remoteresolution/resolver/bundle"
	_ "github.com/tektoncd/pipeline/pkg/remoteresolution/resolver/cluster"
	_ "github.com/tektoncd/pipeline/pkg/remoteresolution/resolver/git"
	_ "github.com/tektoncd/pipeline/pkg/remoteresolution/resolver/hub"
)

// banner heads every answer.
const banner = "run-board: what would run"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/items", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"banner": banner, "items": []string{}})
	})
	mux.HandleFunc("POST /check", func(w http.ResponseWriter, r *http.Request) {
		var pipeline v1.Pipeline
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&pipeline); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := pipeline.Validate(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	})
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
