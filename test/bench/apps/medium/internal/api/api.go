// Package api is the board for programs.
package api

import (
	"encoding/json"
	"net/http"

	"pod-board/internal/inventory"
	"pod-board/internal/words"
)

// Handler answers with what the board shows.
func Handler(banner string, pods *inventory.Pods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := pods.Names(r.Context())
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"banner": banner, "motto": words.Motto, "summary": inventory.Summary(names), "items": names,
		})
	})
}
