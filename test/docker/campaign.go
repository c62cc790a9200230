package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/docker/generate"
	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// progressEvery is how often a campaign says how far it is.
const progressEvery = 30 * time.Second

// runCampaign checks generated cases, as the package comment describes it.
func runCampaign(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("docker generated", flag.ContinueOnError)
	name := flags.String("state", "", "the file of records; is made if it is not there")
	from := flags.Uint64("from", 1, "the first seed")
	n := flags.Uint64("n", 100, "how many seeds")
	shrink := flags.Bool("shrink", false, "look for the smallest case that differs too")
	parallel := flags.Int("j", runtime.NumCPU(), "how many cases to build at a time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q? Generated cases take flags alone", flags.Arg(0))
	}
	records, err := openState(*name)
	if err != nil {
		return fmt.Errorf("the campaign's file: %w", err)
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	o, err := oracle.New(ctx)
	if err != nil {
		return fmt.Errorf("start the builders: %w", err)
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	work, err := os.MkdirTemp("", "slipway-generated-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	c := &campaign{oracle: o, work: work, shrink: *shrink, commit: commit(ctx), state: records, out: out}

	stop := c.progress(*from, *n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(*parallel)
	for seed := *from; seed-*from < *n; seed++ {
		if !records.has(seed) {
			group.Go(func() error { return c.seed(ctx, seed) })
		}
	}
	err = group.Wait()
	stop()
	if err != nil {
		return err
	}
	t := records.tally(*from, *n)
	c.sayf("%d cases: %s (%s)", t.done, t, t.runOn())
	if t.verdicts[oracle.Differs] > 0 {
		return errDiffers
	}
	return nil
}

// campaign checks generated cases and records what becomes of them.
type campaign struct {
	oracle *oracle.Oracle
	work   string // a folder
	shrink bool
	commit string
	state  *state

	mu  sync.Mutex
	out io.Writer
}

func (c *campaign) sayf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, format+"\n", args...)
}

// progress says how far the campaign is, until stop is called.
func (c *campaign) progress(from, n uint64) (stop func()) {
	ended := make(chan struct{})
	go func() {
		for tick := time.NewTicker(progressEvery); ; {
			select {
			case <-ended:
				tick.Stop()
				return
			case <-tick.C:
				t := c.state.tally(from, n)
				c.sayf("%d of %d done: %s", t.done, n, t)
			}
		}
	}()
	return sync.OnceFunc(func() { close(ended) })
}

// seed checks the case of a seed, and says what came of it unless it is equal.
func (c *campaign) seed(ctx context.Context, seed uint64) error {
	one := generate.New(seed)
	result, err := check(ctx, c.oracle, one, filepath.Join(c.work, fmt.Sprint(seed)))
	if err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}
	text := told(seed, result)
	if result.Verdict == oracle.Differs {
		if c.shrink {
			smaller := filepath.Join(c.work, fmt.Sprintf("%d-smaller", seed))
			one = generate.Shrink(ctx, one, func(ctx context.Context, tried *generate.Case) bool {
				again, err := check(ctx, c.oracle, tried, smaller)
				return err == nil && again.Verdict == oracle.Differs && sameKind(again, result)
			})
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		text += "\n" + shortened(one)
	}
	if err := c.state.add(record{Seed: seed, Commit: c.commit, Verdict: result.Verdict, Differences: result.Differences}); err != nil {
		return err
	}
	if result.Verdict != oracle.Equal {
		c.sayf("%s", text)
	}
	return nil
}

// told is a result with the seed in the place of the folder.
func told(seed uint64, result oracle.Result) string {
	_, rest, _ := strings.Cut(result.String(), ": ")
	return fmt.Sprintf("seed %d: %s", seed, rest)
}

// maxLines is how many lines of a Dockerfile are shown.
const maxLines = 40

// shortened is the Dockerfile of a case, indented, without what follows maxLines.
func shortened(c *generate.Case) string {
	lines := strings.Split(strings.TrimRight(c.String(), "\r\n"), "\n")
	if more := len(lines) - maxLines; more > 0 {
		lines = append(lines[:maxLines], fmt.Sprintf("… and %d lines more", more))
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString("    | " + strings.TrimRight(line, "\r") + "\n")
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// sameKind reports whether two results differ in the same way, as far as the
// start of the first difference tells.
func sameKind(a, b oracle.Result) bool {
	if len(a.Differences) == 0 || len(b.Differences) == 0 {
		return len(a.Differences) == len(b.Differences)
	}
	kind := func(text string) string {
		_, rest, _ := strings.Cut(text, ": ")
		return rest[:min(len(rest), 12)]
	}
	return kind(a.Differences[0]) == kind(b.Differences[0])
}

// check builds a generated case in the folder dir, which goes again.
func check(ctx context.Context, o *oracle.Oracle, c *generate.Case, dir string) (oracle.Result, error) {
	defer os.RemoveAll(dir)
	if err := c.Write(dir); err != nil {
		return oracle.Result{}, err
	}
	return o.Check(ctx, filepath.Join(dir, "context"))
}

// commit is that of the code that is checked, which the builders are built from,
// with a sign where files of it are not committed; "" outside of a clone.
func commit(ctx context.Context) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty")
	cmd.Dir = cluster.Root()
	output, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(output))
}
