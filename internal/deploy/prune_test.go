package deploy

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
)

// TestLeftoversOfKinds: what left the overlay is found in another version than
// it was applied in, is gone with its kind, and is not forgotten while the
// cluster's kinds are not known.
func TestLeftoversOfKinds(t *testing.T) {
	t.Parallel()
	const kinds = `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"slipway.test/v1","resources":[{"name":%q,"kind":%q,"namespaced":true,"verbs":["get"]}]}`
	for name, tc := range map[string]struct {
		kinds         string // "" if that cannot be asked
		gone, unknown int
	}{
		"another version": {fmt.Sprintf(kinds, "feeds", "Feed"), 1, 0},
		"kind is gone":    {fmt.Sprintf(kinds, "others", "Other"), 0, 0},
		"not known":       {"", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			m := &mask{log: &log}
			c := connected(t.Context(), t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				answer := map[string]string{
					"/api":                  `{"kind":"APIVersions","versions":[]}`,
					"/apis":                 `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"slipway.test","versions":[{"groupVersion":"slipway.test/v1","version":"v1"}]}]}`,
					"/apis/slipway.test/v1": tc.kinds,
					"/apis/slipway.test/v1/namespaces/feed/feeds/news": `{"apiVersion":"slipway.test/v1","kind":"Feed","metadata":{"name":"news","namespace":"feed",` +
						`"labels":{"slipway-ci.github.io/deploy":"app","slipway-ci.github.io/deploy-namespace":"feed"},"managedFields":[{"manager":"slipway","operation":"Apply"}]}}`,
				}[r.URL.Path]
				if answer == "" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				_, _ = w.Write([]byte(answer)) // the client says what it got
			}, m)
			d := &deployment{hold: &hold{ledger: ledger{c, "app"}}}
			d.now.Leftovers = []identity{{"slipway.test/v1alpha1", "Feed", "feed", "news"}}
			gone, err := d.leftovers(t.Context())
			if err != nil || len(gone) != tc.gone || len(d.unknown) != tc.unknown {
				t.Errorf("%d to prune, %d unknown, %v; want %d and %d\n%s", len(gone), len(d.unknown), err, tc.gone, tc.unknown, log.String())
			}
		})
	}
}
