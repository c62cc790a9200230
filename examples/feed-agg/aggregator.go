package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mmcdole/gofeed"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"
)

const (
	maxFeed    = 10 << 20 // bytes read of one feed
	maxFetches = 8        // feeds fetched at a time
)

// item is one entry of a feed.
type item struct {
	Title     string    `json:"title"`
	Link      string    `json:"link"`
	Feed      string    `json:"feed"`      // title of the feed it came from
	Published time.Time `json:"published"` // zero if the feed does not say
}

// feed is what is known of one URL. A fetch that fails leaves the items as they
// were: yesterday's news are better than none.
type feed struct {
	items        []item
	etag         string
	lastModified string
}

// aggregator fetches feeds and merges their items.
type aggregator struct {
	urls    []string
	client  *http.Client
	log     *slog.Logger
	fetches *prometheus.CounterVec
	seconds prometheus.Histogram

	mu     sync.Mutex
	feeds  map[string]feed
	merged []item
	ready  bool
}

func newAggregator(urls []string, client *http.Client, log *slog.Logger, metrics prometheus.Registerer) *aggregator {
	return &aggregator{
		urls:   urls,
		client: client,
		log:    log,
		feeds:  make(map[string]feed, len(urls)),
		fetches: promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{
			Name: "feed_agg_fetches_total",
			Help: "Fetches by feed and outcome: changed, unchanged, failed.",
		}, []string{"feed", "outcome"}),
		seconds: promauto.With(metrics).NewHistogram(prometheus.HistogramOpts{
			Name: "feed_agg_fetch_seconds",
			Help: "Time one fetch took.",
		}),
	}
}

// items returns every item known, newest first, and whether each feed was tried
// at least once. The caller must not change the slice.
func (a *aggregator) items() (items []item, ready bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.merged, a.ready
}

// keepFresh refreshes at once and then every interval, until ctx is done.
func (a *aggregator) keepFresh(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		a.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// refresh fetches every feed once. A feed that fails is logged and counted; it
// does not stop the others.
func (a *aggregator) refresh(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(maxFetches)
	for _, url := range a.urls {
		group.Go(func() error {
			started := time.Now()
			outcome, err := a.fetch(ctx, url)
			if err != nil {
				a.log.Warn("feed failed, its items stay as they were", "feed", url, "error", err)
			}
			a.seconds.Observe(time.Since(started).Seconds())
			a.fetches.WithLabelValues(url, outcome).Inc()
			return nil
		})
	}
	_ = group.Wait() // no function of the group returns an error
	a.mu.Lock()
	defer a.mu.Unlock()
	a.merged = merge(a.feeds)
	a.ready = ctx.Err() == nil || a.ready
}

// fetch brings one feed up to date, asking the server only for what changed
// (RFC 9110, section 13).
func (a *aggregator) fetch(ctx context.Context, url string) (outcome string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "failed", err
	}
	a.mu.Lock()
	known := a.feeds[url]
	a.mu.Unlock()
	if known.etag != "" {
		request.Header.Set("If-None-Match", known.etag)
	}
	if known.lastModified != "" {
		request.Header.Set("If-Modified-Since", known.lastModified)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return "failed", err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusNotModified:
		return "unchanged", nil
	case http.StatusOK:
	default:
		return "failed", fmt.Errorf("get %s: %s", url, response.Status)
	}
	// A parser of its own for each: gofeed's is not safe for concurrent use.
	parsed, err := gofeed.NewParser().Parse(io.LimitReader(response.Body, maxFeed))
	if err != nil {
		return "failed", fmt.Errorf("parse %s: %w", url, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.feeds[url] = feed{
		items:        itemsOf(parsed),
		etag:         response.Header.Get("ETag"),
		lastModified: response.Header.Get("Last-Modified"),
	}
	return "changed", nil
}

func itemsOf(parsed *gofeed.Feed) []item {
	items := make([]item, 0, len(parsed.Items))
	for _, entry := range parsed.Items {
		i := item{Title: entry.Title, Link: entry.Link, Feed: parsed.Title}
		switch {
		case entry.PublishedParsed != nil:
			i.Published = entry.PublishedParsed.UTC()
		case entry.UpdatedParsed != nil:
			i.Published = entry.UpdatedParsed.UTC()
		}
		items = append(items, i)
	}
	return items
}

// merge returns the items of all feeds, newest first, an item that several
// feeds carry only once.
func merge(feeds map[string]feed) []item {
	var all []item
	for _, f := range feeds {
		all = append(all, f.items...)
	}
	slices.SortFunc(all, func(a, b item) int {
		return cmp.Or(b.Published.Compare(a.Published), cmp.Compare(a.Link, b.Link), cmp.Compare(a.Feed, b.Feed))
	})
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(i item) bool {
		if i.Link == "" {
			return false
		}
		again := seen[i.Link]
		seen[i.Link] = true
		return again
	})
}
