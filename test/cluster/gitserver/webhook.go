package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// noCommit is the commit of a ref that does not exist.
const noCommit = "0000000000000000000000000000000000000000"

// pushEvent has the fields of GitHub's event that consumers of a push use
// (https://docs.github.com/webhooks/webhook-events-and-payloads#push).
type pushEvent struct {
	Ref        string     `json:"ref"`
	Before     string     `json:"before"`
	After      string     `json:"after"`
	Created    bool       `json:"created"`
	Deleted    bool       `json:"deleted"`
	Repository repository `json:"repository"`
	HeadCommit *commit    `json:"head_commit"` // null when the ref was deleted
	Pusher     person     `json:"pusher"`
}

type repository struct {
	Name     string `json:"name"`
	FullName string `json:"full_name"`
	CloneURL string `json:"clone_url"`
}

type commit struct {
	ID        string `json:"id"`
	Message   string `json:"message"`
	Timestamp string `json:"timestamp"`
	Author    person `json:"author"`
}

type person struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// announce queues an event for each ref that differs.
func (h *handler) announce(ctx context.Context, name string, before, after map[string]string) error {
	refs := maps.Clone(before)
	maps.Copy(refs, after)
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		old, new := before[ref], after[ref]
		if old == new {
			continue
		}
		event := pushEvent{
			Ref:     ref,
			Before:  old,
			After:   new,
			Created: old == "",
			Deleted: new == "",
			Repository: repository{
				Name:     path.Base(name),
				FullName: name,
				CloneURL: strings.TrimSuffix(h.config.ExternalURL, "/") + "/" + name + ".git",
			},
			// Nobody logs in, so the pusher is not known.
			Pusher: person{Name: "anonymous"},
		}
		if event.Created {
			event.Before = noCommit
		}
		if event.Deleted {
			event.After = noCommit
		} else {
			// An annotated tag stands for the commit that it names.
			output, err := h.query(ctx, name, "log", "-1", "--format=%H%x00%cI%x00%an%x00%ae%x00%B", new)
			if err != nil {
				return err
			}
			f := strings.SplitN(strings.TrimSuffix(output, "\n"), "\x00", 5)
			event.HeadCommit = &commit{ID: f[0], Timestamp: f[1], Author: person{f[2], f[3]}, Message: strings.TrimSuffix(f[4], "\n")}
		}
		h.hooks.queue <- event
	}
	return nil
}

// hooks delivers the push events of each repository in the order of the pushes.
type hooks struct {
	urls   []string
	secret []byte
	log    *log.Logger
	client *http.Client
	queue  chan pushEvent

	attempts int
	backoff  time.Duration // before the second attempt; it doubles with each
}

// waiting is how many events of one repository may wait before a push does.
const waiting = 1024

func newHooks(config Config, out io.Writer) *hooks {
	return &hooks{
		urls:   config.WebhookURLs,
		secret: []byte(config.WebhookSecret),
		log:    log.New(out, "", 0),
		client: &http.Client{Timeout: 10 * time.Second},
		queue:  make(chan pushEvent, waiting),
		// Up to two minutes in all: a listener may still be starting.
		attempts: 8,
		backoff:  time.Second,
	}
}

// deliver sends what is queued until ctx is done. No repository waits for
// another, whose listener may not be there at all.
func (h *hooks) deliver(ctx context.Context) {
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	queues := map[string]chan pushEvent{} // by repository
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-h.queue:
			name := event.Repository.FullName
			if queues[name] == nil {
				queue := make(chan pushEvent, waiting)
				queues[name] = queue
				deliveries.Go(func() { h.deliverOne(ctx, queue) })
			}
			select {
			case queues[name] <- event:
			case <-ctx.Done():
			}
		}
	}
}

// deliverOne sends the events of one repository.
func (h *hooks) deliverOne(ctx context.Context, queue <-chan pushEvent) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-queue:
			body, err := json.Marshal(event)
			if err != nil {
				h.log.Printf("encode the event of %s: %v", event.Ref, err)
				continue
			}
			for _, url := range h.urls {
				h.send(ctx, url, event, body)
			}
		}
	}
}

func (h *hooks) send(ctx context.Context, url string, event pushEvent, body []byte) {
	what := fmt.Sprintf("push of %s to %s, delivered to %s", event.Ref, event.Repository.FullName, url)
	delivery := newDelivery()
	pause := h.backoff
	for attempt := 1; ; attempt++ {
		status, err := h.post(ctx, url, delivery, body)
		if err == nil {
			h.log.Printf("%s: %s", what, status)
			return
		}
		h.log.Printf("%s: attempt %d of %d: %v", what, attempt, h.attempts, err)
		if attempt == h.attempts {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause *= 2
		}
	}
}

func (h *hooks) post(ctx context.Context, url, delivery string, body []byte) (status string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "GitHub-Hookshot/slipway-test")
	request.Header.Set("X-GitHub-Event", "push")
	request.Header.Set("X-GitHub-Delivery", delivery)
	if len(h.secret) > 0 {
		mac := hmac.New(sha256.New, h.secret)
		mac.Write(body)
		request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	response, err := h.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return "", fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(answer))
	}
	return response.Status, nil
}

// newDelivery is a random UUID (RFC 9562, version 4), as GitHub's are.
func newDelivery() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
