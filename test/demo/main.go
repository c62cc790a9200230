// Command demo shows Slipway's main job on a real cluster: a push becomes an
// image and a running app; then a push that changes one line; then one that
// changes nothing in the image.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

const (
	app        = "feed-agg"
	namespace  = "feed-agg"         // of the app, its runs and its claim
	repository = "example/feed-agg" // as examples/app/trigger.yaml filters it
	banner     = "feed-agg: all feeds, newest first"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// record is one case of build/demo.json. A figure that is not known is null.
type record struct {
	Name         string  `json:"name"`
	Seconds      float64 `json:"seconds"`       // from the push until rolled out
	BuildSeconds float64 `json:"build_seconds"` // from prepare's start to the digest in the registry
	Compiled     *int    `json:"compiled"`      // packages
	Cached       *int    `json:"cached"`        // packages
	Unchanged    bool    `json:"unchanged"`     // nothing was built: the image was there
	Digest       string  `json:"digest"`
	Answered     string  `json:"answered"`

	fetch, deploy float64
}

func run(ctx context.Context, out io.Writer) error {
	if err := cluster.Enter(); err != nil {
		return err
	}
	c, err := flow.Connect(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nInstalling Slipway and the app's Trigger into namespace %s, with an empty claim\n", namespace)
	// The first case is a cold one, in each run of the demo: nothing is cached,
	// and no earlier image is of the same inputs.
	c.Images += "demo-" + strings.ToLower(rand.Text()[:10]) + "-"
	if err := c.Remove(ctx, namespace); err != nil {
		return err
	}
	resolved, err := flow.Resolve(ctx)
	if err != nil {
		return err
	}
	if err := c.Install(ctx, namespace, resolved); err != nil {
		return err
	}
	if err := c.InstallTriggers(ctx, namespace, flow.App{Name: app, Repository: repository, Overlay: "kustomize/overlays/cluster30"}); err != nil {
		return err
	}

	work, err := os.MkdirTemp("", "slipway-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	repo, err := c.NewRepository(ctx, repository, filepath.Join(cluster.Root(), "examples", app), filepath.Join(work, app))
	if err != nil {
		return err
	}

	var records []record
	for _, step := range []struct {
		name, about string
		change      func() error
	}{
		{"cold", "a first push: every cache is empty", func() error { return nil }},
		{"one-line", "one line of main.go changed", func() error {
			return repo.Replace("main.go", strconv.Quote(banner), strconv.Quote(banner+", one line later"))
		}},
		{"unchanged", "a change that is not in the image: README.md", func() error {
			return repo.Write("README.md", "# feed-agg\n\nThis line is in no image.\n")
		}},
	} {
		if err := step.change(); err != nil {
			return err
		}
		fmt.Fprintf(out, "\n== %s: %s\n", step.name, step.about)
		r, err := push(ctx, c, repo, step.about, out)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		r.Name = step.name
		fmt.Fprintf(out, "%9s  %-9s the app answers: %s\n", "", "", r.Answered)
		records = append(records, r)
	}
	if err := check(records); err != nil {
		return err
	}
	file := filepath.Join(cluster.Root(), "build", "demo.json")
	if err := write(file, records); err != nil {
		return err
	}
	table(out, records)
	fmt.Fprintf(out, "\nThe same figures: %s\n", file)
	return nil
}

// push is one case: from git push until the app has been rolled out and answers.
func push(ctx context.Context, c *flow.Cluster, repo *flow.Repository, message string, out io.Writer) (record, error) {
	start := time.Now()
	commit, err := repo.Push(ctx, message)
	if err != nil {
		return record{}, err
	}
	name, err := c.WaitForRun(ctx, namespace, commit)
	if err != nil {
		return record{}, err
	}
	fmt.Fprintf(out, "%9s  %-9s commit %.12s became PipelineRun %s\n", "", "push", commit, name)
	r, err := c.Follow(ctx, namespace, name, start, out)
	if err != nil {
		return record{}, err
	}
	if !r.Succeeded() {
		return record{}, fmt.Errorf("PipelineRun %s: %s", name, r.Message())
	}
	report, err := r.Report()
	if err != nil {
		return record{}, err
	}
	answer, err := c.Ask(ctx, namespace, app, "/api/items")
	if err != nil {
		return record{}, err
	}
	var page struct {
		Banner string `json:"banner"`
	}
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		return record{}, fmt.Errorf("read what the app answers, %q: %w", answer, err)
	}
	return record{
		Seconds:      round(r.Ended["deploy"].Sub(start).Seconds()),
		BuildSeconds: round(report.Seconds),
		Compiled:     report.Compiled,
		Cached:       report.Cached,
		Unchanged:    report.Unchanged != nil,
		Digest:       r.Result("build", "IMAGE_DIGEST"),
		Answered:     page.Banner,
		fetch:        r.Seconds("fetch"),
		deploy:       r.Seconds("deploy"),
	}, nil
}

func round(seconds float64) float64 { return float64(int(seconds*10+0.5)) / 10 }

// check is what makes the demo a demonstration: the figures mean nothing if the
// wrong app answers.
func check(records []record) error {
	cold, line, unchanged := records[0], records[1], records[2]
	switch {
	case cold.Answered != banner:
		return fmt.Errorf("after the first push the app answers %q, not %q", cold.Answered, banner)
	case !strings.HasSuffix(line.Answered, "one line later"):
		return fmt.Errorf("after one line changed the app still answers %q", line.Answered)
	case line.Digest == cold.Digest:
		return errors.New("one line changed, and the digest did not")
	case !unchanged.Unchanged:
		return errors.New("nothing in the image changed, and it was built")
	case unchanged.Digest != line.Digest:
		return fmt.Errorf("nothing in the image changed, and its digest did: %s, then %s", line.Digest, unchanged.Digest)
	}
	return nil
}

func write(file string, records []record) error {
	content, err := json.MarshalIndent(map[string][]record{"cases": records}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return step.WriteFile(file, append(content, '\n'), 0o644)
}

func table(out io.Writer, records []record) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "case\tfetch\tbuild\tdeploy\ttotal\tpackages compiled / from cache\t")
	for _, r := range records {
		fmt.Fprintf(w, "%s\t%.0f s\t%.1f s\t%.0f s\t%.1f s\t%s\t\n", r.Name, r.fetch, r.BuildSeconds, r.deploy, r.Seconds, packages(r))
	}
	w.Flush()
}

func packages(r record) string {
	if r.Unchanged {
		return "nothing is built"
	}
	return count(r.Compiled) + " / " + count(r.Cached)
}

func count(n *int) string {
	if n == nil {
		return "unknown"
	}
	return strconv.Itoa(*n)
}
