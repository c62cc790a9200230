// Command suite runs every level of the tests, the fastest first, and says in
// the end what passed: `make test`. With names of levels as arguments it runs
// only those: `make unit`. "all" is every level, those that take long as well:
// `make test-all`.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
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
)

// level is one kind of test: commands that run in folders below the root.
type level struct {
	name, about string
	commands    []command
	// always runs the level even after another failed: it leaves the machine
	// as it was.
	always bool
	// long levels run where they are asked for: with all, or by name.
	long bool
	// local levels are about the local cluster: with KUBECONFIG there is none.
	local bool
}

type command struct {
	dir  string // from the repository's root
	args []string
}

// apart are packages that are levels of their own: they need a running cluster,
// an API server or BuildKit, or take longer than the rest together.
var apart = []string{"/test/apiserver", "/test/cluster/lifecycle", "/test/docker", "/test/e2e", "/test/histories", "/test/volume"}

// matrices are the end-to-end tests that build dozens of Dockerfiles, some of
// them with every combination of caches, and what is to be timed alone.
const matrices = "^(TestUnchangedBesideANoOp|TestSameBytes|TestWild)$"

func levels(ctx context.Context) ([]level, error) {
	list := exec.CommandContext(ctx, "go", "list", "./...")
	list.Dir = cluster.Root()
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w", err)
	}
	unit := slices.DeleteFunc(strings.Fields(string(out)), func(pkg string) bool {
		return slices.ContainsFunc(apart, func(suffix string) bool { return strings.HasSuffix(pkg, suffix) })
	})
	root := func(args ...string) command { return command{".", args} }
	return []level{
		{name: "unit", about: "packages, the contract of tasks and code, step binaries as programs, the example app", commands: []command{
			root(goTest(unit...)...),
			{"examples/feed-agg", goTest("./...")},
			{"examples/shop", []string{"go", "vet", "./..."}},
		}},
		{name: "lint", about: "golangci-lint, and modules that are tidy", commands: []command{
			root("go", "tool", "-modfile=test/tools/go.mod", "golangci-lint", "run"),
			root("go", "mod", "tidy", "-diff"),
		}},
		{name: "docker", about: "images are those that BuildKit builds", commands: []command{root(goTest("-timeout=30m", "./test/docker")...)}},
		{name: "histories", about: "2,000 random histories of deploys that overtake each other", commands: []command{root(goTest("./test/histories")...)}},
		{name: "cluster", about: "the cluster comes up, also from what a killed one left", local: true, commands: []command{
			root("go", "run", "./test/cluster/cli", "up"), // shows its progress, which may be minutes of building
			root(goTest("-run=^TestUp", "./test/cluster/lifecycle")...),
		}},
		{name: "apiserver", about: "deploy against a real API server", commands: []command{root(goTest("./test/apiserver/...")...)}},
		// Its tests mostly wait for pods: three at a time keep two cores busy.
		{name: "e2e", about: "the shipped YAML on the cluster", commands: []command{root(goTest("-timeout=60m", "-parallel=3", "-skip="+matrices, "./test/e2e/...")...)}},
		{name: "matrix", about: "the same image with every cache and none, Dockerfiles of every make, killed builds, and a small volume", long: true, commands: []command{
			root(goTest("-timeout=60m", "-parallel=3", "-run="+matrices, "./test/e2e/...")...),
			root(goTest("-timeout=90m", "./test/volume/...")...),
		}},
		{name: "demo", about: "from git push to a running app", commands: []command{root("go", "run", "./test/demo")}},
		{name: "down", about: "nothing of the cluster is left", always: true, local: true, commands: []command{root(goTest("-run=^TestDown", "./test/cluster/lifecycle")...)}},
	}, nil
}

// goTest is the command that tests packages, told so that a person can follow
// and each failure with its output.
func goTest(args ...string) []string {
	return append([]string{"go", "test", "-count=1"}, args...)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(1)
	}
}

type outcome struct {
	level
	took           time.Duration
	passed, failed int
	err            error
	ran            bool
}

func run(ctx context.Context, names []string) error {
	all, err := levels(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != "all" && !slices.ContainsFunc(all, func(l level) bool { return l.name == name }) {
			return fmt.Errorf("no level is called %q", name)
		}
	}
	logs := filepath.Join(cluster.Root(), "build", "test")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	var outcomes []outcome
	failed := false
	for _, l := range all {
		wanted := slices.Contains(names, l.name) || slices.Contains(names, "all") || len(names) == 0 && !l.long
		if !wanted || l.local && os.Getenv("KUBECONFIG") != "" {
			continue
		}
		o := outcome{level: l}
		if !failed || l.always {
			o = l.run(ctx, filepath.Join(logs, l.name+".log"))
		}
		failed = failed || o.err != nil
		outcomes = append(outcomes, o)
	}
	return summarize(outcomes)
}

// run runs one level with its output on the screen and in logFile.
func (l level) run(ctx context.Context, logFile string) outcome {
	fmt.Printf("\n== %s: %s\n", l.name, l.about)
	o := outcome{level: l, ran: true}
	start := time.Now()
	defer func() { o.took = time.Since(start) }()
	log, err := os.Create(logFile)
	if err != nil {
		o.err = err
		return o
	}
	defer log.Close()
	if l.always {
		// Whoever interrupts the tests wants the machine as it was all the more.
		ctx = context.WithoutCancel(ctx)
	}
	for _, c := range l.commands {
		if err := o.command(ctx, c, log); err != nil {
			o.err = errors.Join(o.err, fmt.Errorf("%s: %w", strings.Join(c.args[:min(len(c.args), 4)], " "), err))
		}
	}
	o.took = time.Since(start)
	return o
}

func (o *outcome) command(ctx context.Context, c command, log *os.File) error {
	args := c.args
	counted := args[1] == "test"
	if counted {
		// gotestsum shows failures and a line for each package; what it
		// counted is in its closing line.
		args = append([]string{"go", "tool", "-modfile=" + filepath.Join(cluster.Root(), "test", "tools", "go.mod"), "gotestsum", "--format=pkgname", "--hide-summary=skipped", "--"}, args[2:]...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = filepath.Join(cluster.Root(), c.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	tee := &teeLines{to: []*os.File{os.Stdout, log}}
	cmd.Stdout, cmd.Stderr = tee, tee
	err := cmd.Run()
	if counted {
		passed, failed := tee.counts()
		o.passed += passed
		o.failed += failed
		if err == nil && passed == 0 {
			return errors.New("no test ran")
		}
	}
	return err
}

// teeLines writes to several files and remembers the last line.
type teeLines struct {
	to   []*os.File
	tail []byte
}

func (t *teeLines) Write(p []byte) (int, error) {
	for _, f := range t.to {
		if _, err := f.Write(p); err != nil {
			return 0, err
		}
	}
	t.tail = append(t.tail, p...)
	t.tail = t.tail[max(0, len(t.tail)-4096):]
	return len(p), nil
}

// counts reads gotestsum's closing line: "DONE 12 tests, 1 failure in 3.2s".
func (t *teeLines) counts() (passed, failed int) {
	lines := bufio.NewScanner(bytes.NewReader(t.tail))
	for lines.Scan() {
		fields := strings.Fields(strings.ReplaceAll(lines.Text(), ",", ""))
		if len(fields) < 3 || fields[0] != "DONE" {
			continue
		}
		total, skipped := 0, 0
		for i := 1; i+1 < len(fields); i++ {
			n, err := strconv.Atoi(fields[i])
			if err != nil {
				continue
			}
			switch {
			case strings.HasPrefix(fields[i+1], "test"):
				total = n
			case strings.HasPrefix(fields[i+1], "failure"):
				failed = n
			case fields[i+1] == "skipped":
				skipped = n
			}
		}
		passed = total - failed - skipped
	}
	return passed, failed
}

func summarize(outcomes []outcome) error {
	fmt.Println("\n== summary")
	passed, failed := 0, 0
	var problems []error
	for _, o := range outcomes {
		verdict := "ok"
		switch {
		case !o.ran:
			verdict = "not run"
		case o.err != nil:
			verdict = "FAILED, see build/test/" + o.name + ".log"
			problems = append(problems, fmt.Errorf("%s: %w", o.name, o.err))
			o.failed = max(o.failed, 1)
		case o.passed == 0:
			o.passed = 1 // a command that is a test by itself
		}
		fmt.Printf("%-10s %8s  %4d passed, %d failed  %s\n", o.name, o.took.Round(100*time.Millisecond), o.passed, o.failed, verdict)
		passed += o.passed
		failed += o.failed
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return errors.Join(problems...)
}
