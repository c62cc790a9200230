// Command bench measures Slipway beside what people use instead: the same apps,
// on the same cluster, from the same registry and module proxy.
//
//	make bench [CASE=cold,one-line] [APP=small] [WITH=slipway,ko] [RUNS=3]
//
// It writes build/bench.json after every run, and goes on where it stopped.
// With the argument report it makes docs/bench of what that file has.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/cluster/parts"
	"github.com/slipway-ci/slipway/test/flow"
)

// usual is how often each case is run.
const usual = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	file := filepath.Join(cluster.Root(), "build", "bench.json")
	switch {
	case len(args) == 1 && args[0] == "report":
		return publish(file, filepath.Join(cluster.Root(), "docs", "bench"))
	case len(args) > 0:
		return fmt.Errorf("unknown argument %q: there is only report", args[0])
	}
	chosen, err := selected(os.Getenv)
	if err != nil {
		return err
	}
	jobs, err := chosen.jobs()
	if err != nil {
		return err
	}
	// Modules are out of reach from inside the cluster's network.
	if err := buildContenders(ctx, out); err != nil {
		return err
	}
	gos := []string{""}
	if slices.Contains(chosen.cases, "go-version") {
		gos = append(gos, goVersions...)
	}
	for _, version := range gos[1:] {
		if _, err := toolchain(ctx, version); err != nil {
			return err
		}
	}
	if err := cluster.Enter(); err != nil {
		return err
	}
	if !cluster.Local() {
		return errors.New("KUBECONFIG is set: the benchmarks read cgroups and folders of the node, so they run on the local cluster only")
	}
	c, err := flow.Connect(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Building the step images")
	resolved, err := flow.Resolve(ctx)
	if err != nil {
		return err
	}
	commit := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12")
	commit.Dir = cluster.Root()
	head, err := commit.Output()
	if err != nil {
		return fmt.Errorf("ask git for the commit: %w", err)
	}
	m, err := thisMachine()
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(resolved))
	found, err := readResults(file, m, version{strings.TrimSpace(string(head)), hex.EncodeToString(sum[:])}, time.Now())
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	defer os.RemoveAll(trash)
	b := &bench{cluster: c, results: found, resolved: resolved, gos: gos, work: work, logs: filepath.Join(cluster.Root(), "build", "bench"), out: out, sites: map[string]*site{}}
	if err := b.all(ctx, jobs); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\nThe records: %s\n", tables(found), file)
	return nil
}

// buildContenders builds the programs that are no part of the cluster.
func buildContenders(ctx context.Context, out io.Writer) error {
	for _, name := range parts.Contenders {
		if parts.Built(name) {
			continue
		}
		log := filepath.Join(cluster.Root(), "build", name+".log")
		if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
			return err
		}
		fmt.Fprintf(out, "Building %s, which takes minutes the first time; see %s\n", name, log)
		if _, err := parts.Ensure(ctx, name, log); err != nil {
			return err
		}
	}
	return nil
}

// selected reads what to run from the environment, as make passes it on.
func selected(env func(string) string) (selection, error) {
	list := func(name string) []string {
		return strings.FieldsFunc(env(name), func(r rune) bool { return r == ',' || r == ' ' })
	}
	s := selection{cases: list("CASE"), apps: list("APP"), with: list("WITH"), runs: usual}
	if text := env("RUNS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return selection{}, fmt.Errorf("RUNS=%s is no number", text)
		}
		s.runs = n
	}
	return s, nil
}
