package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/test/docker/generate"
	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// record is a line of a campaign's file: what became of a seed.
type record struct {
	Seed        uint64         `json:"seed"`
	Verdict     oracle.Verdict `json:"verdict"`
	Differences []string       `json:"differences,omitempty"`
}

// campaign checks generated cases:
//
//	go run ./test/docker generated -state FILE [-from SEED] [-n N] [-shrink] [-j N]
//
// Seeds that FILE has a record of are not checked again, so a campaign that was
// broken off goes on where it stopped.
func campaign(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("docker generated", flag.ContinueOnError)
	state := flags.String("state", "", "the file of records; is made if it is not there")
	from := flags.Uint64("from", 1, "the first seed")
	n := flags.Uint64("n", 100, "how many seeds")
	shrink := flags.Bool("shrink", false, "look for a smaller case that differs too")
	parallel := flags.Int("j", runtime.NumCPU(), "how many cases to build at a time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	done, err := readRecords(*state)
	if err != nil {
		return err
	}
	file := io.Discard
	if *state != "" {
		opened, err := os.OpenFile(*state, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer opened.Close()
		file = opened
	}
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

	var mu sync.Mutex
	counts := map[oracle.Verdict]int{}
	for seed, r := range done {
		if seed >= *from && seed < *from+*n {
			counts[r.Verdict]++
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(*parallel)
	for seed := *from; seed < *from+*n; seed++ {
		if _, ok := done[seed]; ok {
			continue
		}
		group.Go(func() error {
			c := generate.New(seed)
			result, err := check(ctx, o, c, filepath.Join(work, fmt.Sprint(seed)))
			if err != nil {
				return fmt.Errorf("seed %d: %w", seed, err)
			}
			text := result.String()
			if result.Verdict == oracle.Differs && *shrink {
				c = generate.Shrink(ctx, c, func(ctx context.Context, c *generate.Case) bool {
					tried, err := check(ctx, o, c, filepath.Join(work, fmt.Sprintf("%d-smaller", seed)))
					return err == nil && tried.Verdict == oracle.Differs && sameKind(tried, result)
				})
				text += "\n" + c.String()
			}
			mu.Lock()
			defer mu.Unlock()
			counts[result.Verdict]++
			line, err := json.Marshal(record{Seed: seed, Verdict: result.Verdict, Differences: result.Differences})
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(file, "%s\n", line); err != nil {
				return err
			}
			if result.Verdict != oracle.Equal {
				_, rest, _ := strings.Cut(text, ": ")
				fmt.Fprintf(out, "seed %d: %s\n", seed, rest)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d cases: %d equal, %d refused, %d differ\n", *n, counts[oracle.Equal], counts[oracle.Refused], counts[oracle.Differs])
	if counts[oracle.Differs] > 0 {
		return errDiffers
	}
	return nil
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
	options, err := json.Marshal(map[string]any{"args": c.BuildArgs, "target": c.Target})
	if err != nil {
		return oracle.Result{}, err
	}
	folder := filepath.Join(dir, "context")
	if err := os.WriteFile(folder+".json", options, 0o644); err != nil {
		return oracle.Result{}, err
	}
	return o.Check(ctx, folder)
}

// readRecords reads a campaign's file, by seed. One that is not there has none.
func readRecords(file string) (map[uint64]record, error) {
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	records := map[uint64]record{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if json.Unmarshal(lines.Bytes(), &r) == nil { // the last may be half of one
			records[r.Seed] = r
		}
	}
	return records, lines.Err()
}
