package deploy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// connected is a cluster whose API server is handler.
func connected(ctx context.Context, t *testing.T, handler http.HandlerFunc, log *mask) *cluster {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	content := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + server.URL + "'}}]\n" +
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(filepath.Join(dir, "kubeconfig"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := connect(ctx, dir, "", "feed", log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWarnings: what an API server warns of is in the log, once, without the
// values of Secrets that it may quote.
func TestWarnings(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	m := &mask{log: &log}
	m.hide(secretOf(t, "stringData: {token: hunter2}"))
	c := connected(t.Context(), t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Warning", `299 - "hunter2 is too short"`)
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"ConfigMap"}`))
	}, m)
	for range 2 {
		if _, err := c.core.ConfigMaps("feed").Get(t.Context(), "feeds", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if want := "Warning: (masked) is too short\n"; log.String() != want {
		t.Errorf("%q, want %q", log.String(), want)
	}
}

// TestDiscoveryEnds: a run that is told to stop does not wait for an API server
// that says nothing of its kinds.
func TestDiscoveryEnds(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan struct{}, 1)
	c := connected(ctx, t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}, &mask{log: io.Discard})
	go func() {
		<-asked
		stop()
	}()
	if _, err := c.resource(secretOf(t, "data: {}")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was told to stop", err)
	}
}
