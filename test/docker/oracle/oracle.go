// Package oracle has BuildKit build what Slipway builds, and tells how the
// images differ.
//
// All that a container of the image can tell counts: each file with its kind,
// mode, owner, content, link target, other names (hard links), extended
// attributes and device numbers, and each field of the configuration. Left out
// are modification times, the number of layers, the history and the image's
// time: they say when and how an image was made.
//
// Slipway's side is the steps of tasks/build.yaml, with the real programs, each
// in a container with what the task and the kubelet mount there. There is no
// cluster, and no Tekton between the steps.
package oracle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	registries "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/test/cluster"
)

const goarch = runtime.GOARCH

// buildWithin is how long a build may take. Most builds take a second. A build that
// compiles Go's standard library can take minutes on a busy machine.
const buildWithin = 5 * time.Minute

// Packages is what an oracle needs of Debian.
var Packages = append([]string{"runc"}, cluster.StandInPackages...)

// Oracle is both builders, ready. Its methods may be called side by side.
type Oracle struct {
	dir      string
	keep     bool
	blobs    *blobs
	server   *httptest.Server
	registry string // its host and port
	buildKit *buildKit
	slipway  *slipway
	checks   atomic.Int64

	remembered string // a folder
	mu         sync.Mutex
	known      map[string]*buildKitResult // by the folder of a case
}

// buildKitResult is what BuildKit made of a case.
type buildKitResult struct {
	once  sync.Once
	image v1.Image // nil where the build failed
	log   string
	took  time.Duration
	err   error
}

// Option is something that an oracle does otherwise.
type Option func(*Oracle)

// Keep leaves the folders of each check, and says where they are in [Result].
func Keep() Option { return func(o *Oracle) { o.keep = true } }

// Remember keeps until [Oracle.Close] what BuildKit makes of the folders in dir,
// which are checked more than once and do not change in between.
func Remember(dir string) Option { return func(o *Oracle) { o.remembered = dir } }

// New starts both builders. It takes root, and builds what is not built yet.
// [Oracle.Close] ends them.
func New(ctx context.Context, options ...Option) (_ *Oracle, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("both builders make containers: run this as root")
	}
	if err := cluster.Install(ctx, Packages...); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "slipway-oracle-")
	if err != nil {
		return nil, err
	}
	o := &Oracle{dir: dir, known: map[string]*buildKitResult{}}
	for _, option := range options {
		option(o)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	if o.remembered != "" {
		if o.remembered, err = filepath.Abs(o.remembered); err != nil {
			return nil, err
		}
	}
	programs := filepath.Join(dir, "programs")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", programs+"/",
		"./cmd/prepare", "./cmd/push", "./test/docker/container/enter", "./test/docker/recorder")
	build.Dir, build.Env = cluster.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the programs: %w: %s", err, output)
	}
	enter := filepath.Join(programs, "enter")
	standIns, err := cluster.StandIns(ctx)
	if err != nil {
		return nil, err
	}
	o.blobs = &blobs{standIns: string(standIns), pushed: map[string]map[v1.Hash][]byte{}}
	o.server = httptest.NewServer(registries.New(registries.Logger(stdlog.New(io.Discard, "", 0)), registries.WithBlobHandler(o.blobs)))
	registry := strings.TrimPrefix(o.server.URL, "http://")
	o.registry = registry
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return pushBases(ctx, registry, standIns, filepath.Join(programs, "recorder")) })
	group.Go(func() (err error) {
		o.buildKit, err = startBuildKit(ctx, dir, enter, registry)
		return err
	})
	group.Go(func() (err error) {
		o.slipway, err = newSlipway(ctx, dir, enter, programs, registry)
		return err
	})
	return o, group.Wait()
}

// Close ends both builders, and removes what they left.
func (o *Oracle) Close() error {
	var err error
	if o.buildKit != nil {
		err = o.buildKit.stop()
	}
	if o.server != nil {
		o.server.Close()
	}
	if o.keep {
		return err
	}
	return errors.Join(err, os.RemoveAll(o.dir))
}

// Verdict is what came out of a check.
type Verdict string

// The verdicts.
const (
	Equal   Verdict = "equal"
	Refused Verdict = "refused" // by prepare, before anything was built
	Differs Verdict = "differs"
)

// BothFail is why two builds that make no image are equal.
const BothFail = "both fail"

// Result tells how the two builds of a case compare.
type Result struct {
	Dir     string
	Verdict Verdict
	// Why is the reason of a refusal, or [BothFail] of what is equal.
	Why string
	// Differences are the most telling first.
	Differences []string

	BuildKitLog, SlipwayLog   string // of kaniko alone, with [Oracle.CheckKaniko]
	BuildKitTook, SlipwayTook time.Duration
	Work                      string // the folder of the check, with [Keep]

	who      string // was compared with BuildKit
	failures string // of both, for a person
}

// String is the result in a line, and a line more for each further difference.
func (r Result) String() string {
	text := r.Dir + ": " + string(r.Verdict)
	if r.Why != "" {
		text += ": " + r.Why
	}
	if r.failures != "" {
		text += ": " + r.failures
	}
	if len(r.Differences) > 0 {
		text += ": " + strings.Join(r.Differences, "\n    ")
	}
	return text
}

// Check builds a folder with both. The error is one of the machinery, and says
// nothing of the case.
func (o *Oracle) Check(ctx context.Context, dir string) (Result, error) {
	return o.check(ctx, dir, "Slipway", o.slipway.build)
}

// CheckKaniko does the same with kaniko alone in the place of Slipway: its
// executor is given the folder as it is, with the flags that Slipway gives it by
// default. A build that does not end is an error.
func (o *Oracle) CheckKaniko(ctx context.Context, dir string) (Result, error) {
	return o.check(ctx, dir, "kaniko", o.slipway.kanikoAlone)
}

// check compares what BuildKit and who make of a folder.
func (o *Oracle) check(ctx context.Context, dir, who string, build func(context.Context, Case, string) (outcome, error)) (Result, error) {
	c, err := ReadCase(dir)
	if err != nil {
		return Result{}, err
	}
	work := filepath.Join(o.dir, "check-"+strconv.FormatInt(o.checks.Add(1), 10))
	result := Result{Dir: dir, who: who}
	if o.keep {
		result.Work = work
	} else {
		defer os.RemoveAll(work)
	}
	own := filepath.Join(work, strings.ToLower(who))
	if err := os.MkdirAll(own, 0o755); err != nil {
		return Result{}, err
	}
	theirs, folder, err := o.buildKitResult(c, filepath.Join(work, "buildkit"))
	if err != nil {
		return Result{}, err
	}
	theirs.once.Do(func() {
		started := time.Now()
		theirs.image, theirs.log, theirs.err = o.buildKit.build(ctx, c, folder)
		theirs.took = time.Since(started)
	})
	if theirs.err != nil {
		return Result{}, fmt.Errorf("%s: %w", dir, theirs.err)
	}
	result.BuildKitLog, result.BuildKitTook = theirs.log, theirs.took
	started := time.Now()
	ours, err := build(ctx, c, own)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", dir, err)
	}
	result.SlipwayLog, result.SlipwayTook = ours.log, time.Since(started)
	err = result.judge(ctx, theirs.image, ours)
	o.blobs.forget(ours.repository)
	return result, err
}

// buildKitResult is what BuildKit has made of a case or is about to, and the
// folder for it: dir, unless it is remembered.
func (o *Oracle) buildKitResult(c Case, dir string) (*buildKitResult, string, error) {
	if filepath.Dir(c.Dir) != o.remembered {
		return &buildKitResult{}, dir, os.Mkdir(dir, 0o755)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	dir = filepath.Join(o.dir, "buildkit-of-"+filepath.Base(c.Dir))
	if o.known[c.Dir] == nil {
		o.known[c.Dir] = &buildKitResult{}
		return o.known[c.Dir], dir, os.Mkdir(dir, 0o755)
	}
	return o.known[c.Dir], dir, nil
}

// withinBound is ctx with an end for one build.
func withinBound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, buildWithin, fmt.Errorf("not within %s", buildWithin))
}

// judge sets the verdict; theirs is nil where BuildKit failed.
func (r *Result) judge(ctx context.Context, theirs v1.Image, ours outcome) (err error) {
	switch {
	case theirs == nil && ours.endless:
		r.Verdict, r.Differences = Differs, []string{"BuildKit fails: " + buildKitError(r.BuildKitLog), r.who + ": " + ours.failed}
	case theirs == nil && ours.image == nil:
		r.Verdict, r.Why = Equal, BothFail
		r.failures = "BuildKit: " + buildKitError(r.BuildKitLog) + "; " + r.who + ": " + cmp.Or(ours.refused, lastLines(ours.log, 1))
	case theirs == nil:
		r.Verdict, r.Differences = Differs, []string{"BuildKit fails: " + buildKitError(r.BuildKitLog)}
	case ours.refused != "":
		r.Verdict, r.Why = Refused, ours.refused
	case ours.image == nil:
		r.Verdict, r.Differences = Differs, []string{r.who + " fails: " + ours.failed + ": " + strings.ReplaceAll(lastLines(ours.log, 3), "\n", " | ")}
	default:
		r.Verdict = Equal
		if r.Differences, err = compare(theirs, ours.image, r.who); err != nil {
			return fmt.Errorf("%s: compare the images: %w", r.Dir, err)
		}
		unread, err := readBack(ctx, ours.image)
		if err != nil {
			return fmt.Errorf("%s: read the image back: %w", r.Dir, err)
		}
		r.Differences = append(unread, r.Differences...)
		if len(r.Differences) > 0 {
			r.Verdict = Differs
		}
	}
	return nil
}

// BuildKitError is what BuildKit says where it fails.
func (r Result) BuildKitError() string { return buildKitError(r.BuildKitLog) }

// buildKitError is the line of buildctl's that says why it failed.
func buildKitError(log string) string {
	for line := range strings.Lines(log) {
		if why, ok := strings.CutPrefix(line, "error: "); ok {
			return strings.TrimSpace(why)
		}
	}
	return lastLines(log, 1)
}
