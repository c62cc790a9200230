package main

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var (
	//go:embed index.html
	indexHTML string
	//go:embed example.atom
	exampleAtom []byte
)

// page is what / shows and /api/items answers.
type page struct {
	Banner string `json:"banner"`
	Items  []item `json:"items"`
}

func newHandler(feeds *aggregator, metrics prometheus.Gatherer) http.Handler {
	index := template.Must(template.New("index").Parse(indexHTML))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		items, _ := feeds.items()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		// A failed write means that the client is gone.
		_ = index.Execute(w, page{banner, items})
	})
	mux.HandleFunc("GET /api/items", func(w http.ResponseWriter, _ *http.Request) {
		items, _ := feeds.items()
		if items == nil {
			items = []item{} // [] in JSON, not null
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(page{banner, items})
	})
	mux.HandleFunc("GET /example.atom", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/atom+xml")
		_, _ = w.Write(exampleAtom)
	})
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if _, ready := feeds.items(); !ready {
			http.Error(w, "the first fetch is under way", http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}
