// Package page is the board for people.
package page

import (
	"html/template"
	"net/http"

	"pod-board/internal/inventory"
	"pod-board/internal/words"
)

var board = template.Must(template.New("board").Parse(
	`<!doctype html><title>{{.Banner}}</title><h1>{{.Banner}}</h1><p>{{.Motto}}: {{.Summary}}<ul>{{range .Names}}<li>{{.}}{{end}}</ul>`))

// Handler shows the board.
func Handler(banner string, pods *inventory.Pods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := pods.Names(r.Context())
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = board.Execute(w, map[string]any{
			"Banner": banner, "Motto": words.Motto, "Summary": inventory.Summary(names), "Names": names,
		})
	})
}
