// Command docker builds folders with BuildKit and with Slipway and says how the
// images differ:
//
//	go run ./test/docker [-keep] [-v] [-j N] DIR…
//
// Each folder is a build context with its Dockerfile; a file DIR.json beside it
// has build args and the target, such as {"args": {"V": "1"}, "target": "build"}.
// There is a line for each folder, "DIR: equal", "DIR: refused: FILE:LINE: why" or
// "DIR: differs: what", and an indented one for each further difference. The
// exit code is 1 where one differs, and 2 where that could not be found out.
// The package oracle says what is compared. It takes root, and Debian.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// errDiffers is said already.
var errDiffers = errors.New("images differ")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	do, args := run, os.Args[1:]
	if len(args) > 0 {
		switch args[0] {
		case "generated":
			do, args = campaign, args[1:]
		case "corpus":
			do, args = ofCorpus, args[1:]
		}
	}
	err := do(ctx, args, os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errDiffers):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "docker:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("docker", flag.ContinueOnError)
	keep := flags.Bool("keep", false, "leave the folders of the builds, and say where they are")
	logs := flags.Bool("v", false, "show the logs of both builds")
	parallel := flags.Int("j", runtime.NumCPU(), "how many folders to build at a time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("name one folder or more, each with a Dockerfile")
	}
	var options []oracle.Option
	if *keep {
		options = append(options, oracle.Keep())
	}
	o, err := oracle.New(ctx, options...)
	if err != nil {
		return fmt.Errorf("start the builders: %w", err)
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	var mu sync.Mutex
	differs := false
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(*parallel)
	for _, dir := range flags.Args() {
		group.Go(func() error {
			result, err := o.Check(ctx, dir)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			differs = differs || result.Verdict == oracle.Differs
			fmt.Fprintln(out, result)
			if *keep {
				fmt.Fprintf(out, "    kept: %s\n", result.Work)
			}
			if *logs {
				fmt.Fprintf(out, "--- BuildKit, %s\n%s--- Slipway, %s\n%s", result.BuildKitTook.Round(time.Millisecond), result.BuildKitLog,
					result.SlipwayTook.Round(time.Millisecond), result.SlipwayLog)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if differs {
		return errDiffers
	}
	return nil
}
