package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const rss = `<rss version="2.0"><channel><title>Planet</title>
<item><title>New &lt;b&gt;</title><link>http://planet/new</link><pubDate>Tue, 03 Mar 2026 09:00:00 GMT</pubDate></item>
<item><title>Keel again</title><link>http://localhost:8080/#keel</link><pubDate>Mon, 02 Feb 2026 09:00:00 GMT</pubDate></item>
</channel></rss>`

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func aggregate(urls ...string) (*aggregator, http.Handler) {
	registry := prometheus.NewRegistry()
	a := newAggregator(urls, &http.Client{Timeout: 10 * time.Second}, slog.New(slog.DiscardHandler), registry)
	return a, newHandler(a, registry)
}

func get(handler http.Handler, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder
}

func TestItemsAreMergedNewestFirstAndOnce(t *testing.T) {
	t.Parallel()
	atom := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(exampleAtom) })
	planet := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, rss) })
	feeds, handler := aggregate(atom, planet)
	feeds.refresh(t.Context())

	var got page
	if err := json.Unmarshal(get(handler, "/api/items").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var links []string
	for _, i := range got.Items {
		links = append(links, i.Link)
	}
	const want = "http://planet/new http://localhost:8080/#launch http://localhost:8080/#keel"
	if strings.Join(links, " ") != want || got.Banner != banner {
		t.Errorf("got %q, %v, want %q, %s", got.Banner, links, banner, want)
	}
	html := get(handler, "/").Body.String()
	if !strings.Contains(html, banner) || !strings.Contains(html, "New &lt;b&gt;") {
		t.Errorf("page lacks the banner or the escaped title:\n%s", html)
	}
}

func TestAFailingFeedKeepsItsItemsAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	healthy := true
	flaky := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if !healthy {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		_, _ = w.Write(exampleAtom)
	})
	planet := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, rss) })
	feeds, handler := aggregate(flaky, planet)
	feeds.refresh(t.Context())
	healthy = false
	feeds.refresh(t.Context())

	if items, _ := feeds.items(); len(items) != 3 {
		t.Errorf("got %d items, want the 3 of before: %v", len(items), items)
	}
	metrics := get(handler, "/metrics").Body.String()
	for _, outcome := range []string{"changed", "failed"} {
		want := `feed_agg_fetches_total{feed="` + flaky + `",outcome="` + outcome + `"} 1`
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s:\n%s", want, metrics)
		}
	}
}

func TestAnUnchangedFeedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	sent := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent++
		_, _ = io.WriteString(w, rss)
	})
	feeds, _ := aggregate(url)
	feeds.refresh(t.Context())
	feeds.refresh(t.Context())
	if items, _ := feeds.items(); sent != 1 || len(items) != 2 {
		t.Errorf("sent %d times, %d items; want 1 and 2", sent, len(items))
	}
}

func TestReadyOnceEveryFeedWasTried(t *testing.T) {
	t.Parallel()
	feeds, handler := aggregate(serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "down", http.StatusInternalServerError)
	}))
	if code := get(handler, "/readyz").Code; code != http.StatusServiceUnavailable {
		t.Errorf("before: %d", code)
	}
	if body := get(handler, "/api/items").Body.String(); !strings.Contains(body, `"items":[]`) {
		t.Errorf("before: %s", body)
	}
	feeds.refresh(t.Context())
	if code := get(handler, "/readyz").Code; code != http.StatusOK {
		t.Errorf("after: %d", code)
	}
	if code := get(handler, "/healthz").Code; code != http.StatusOK {
		t.Errorf("health: %d", code)
	}
}

func TestReadConfig(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ content, want string }{
		"the shipped one": {content: mustRead(t, "conf.yaml")},
		"unknown field":   {"feed: [http://a]", "field feed not found"},
		"no feeds":        {"listen: ':1'", "feeds is empty"},
		"file URL":        {"feeds: ['file:///etc/passwd']", "not an http or https URL"},
		"duration":        {"refresh: soon\nfeeds: [http://a]", "line 1"},
		"zero":            {"refresh: 0s\nfeeds: [http://a]", "not positive"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "conf.yaml")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := readConfig(path)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestRunServesItsOwnFeedAndStops(t *testing.T) {
	t.Parallel()
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "conf.yaml")
	conf := "listen: " + address + "\nfeeds: ['http://" + address + "/example.atom']\n"
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	log, logWriter := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-config", path}, logWriter)
		_ = logWriter.Close()
	}()
	// The first line of the log says that the socket is open.
	if _, err := log.Read(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	response, err := http.Get("http://" + address + "/example.atom")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Error(response.Status)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
