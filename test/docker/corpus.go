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
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/test/docker/corpus"
	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// fileRecord is a line of the corpus's file: what became of a Dockerfile.
type fileRecord struct {
	File    string         `json:"file"`
	Derived corpus.Derived `json:"derived"`
	Built   *builtRecord   `json:"built,omitempty"`
}

// builtRecord tells what became of the case that a Dockerfile was made into.
type builtRecord struct {
	Not         string         `json:"not,omitempty"` // why there is no build
	Verdict     oracle.Verdict `json:"verdict,omitempty"`
	Why         string         `json:"why,omitempty"`
	Differences []string       `json:"differences,omitempty"`
}

// ofCorpus reads, derives and builds the Dockerfiles below a folder:
//
//	go run ./test/docker corpus [-state FILE] [-build=false] [-match REGEXP] [-j N] [-v] FOLDER
//
// The package corpus says how. Dockerfiles that FILE has a record of are not
// built again, so a run that was broken off goes on where it stopped; all are
// derived in each run.
func ofCorpus(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("docker corpus", flag.ContinueOnError)
	state := flags.String("state", "", "the file of records; is made if it is not there")
	build := flags.Bool("build", true, "build them too")
	match := flags.String("match", "", "only files whose path this regular expression finds")
	verbose := flags.Bool("v", false, "name each Dockerfile that is refused or differs, and why")
	keep := flags.String("keep", "", "a folder to leave the cases in")
	parallel := flags.Int("j", runtime.NumCPU(), "how many cases to build at a time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("name the folder that has the Dockerfiles")
	}
	wanted, err := regexp.Compile(*match)
	if err != nil {
		return err
	}
	files, err := dockerfiles(flags.Arg(0), wanted)
	if err != nil {
		return err
	}
	built, err := readFileRecords(*state)
	if err != nil {
		return err
	}
	records := make([]fileRecord, len(files))
	for at, file := range files {
		content, err := os.ReadFile(filepath.Join(flags.Arg(0), file))
		if err != nil {
			return err
		}
		records[at] = fileRecord{File: file, Derived: corpus.Derive(ctx, content), Built: built[file].Built}
	}
	if *build {
		err = buildAll(ctx, flags.Arg(0), records, *state, *keep, *parallel, out)
	}
	differs := summarize(out, records, *verbose)
	if err == nil && differs {
		return errDiffers
	}
	return err
}

// dockerfiles are the files below a folder, relative to it.
func dockerfiles(folder string, wanted *regexp.Regexp) ([]string, error) {
	var files []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err == nil && wanted.MatchString(relative) {
			files = append(files, relative)
		}
		return err
	})
	return files, err
}

// buildAll builds what has no record yet.
func buildAll(ctx context.Context, folder string, records []fileRecord, state, keep string, parallel int, out io.Writer) (err error) {
	file := io.Discard
	if state != "" {
		opened, err := os.OpenFile(state, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
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
	work := keep
	if work == "" {
		if work, err = os.MkdirTemp("", "slipway-corpus-"); err != nil {
			return err
		}
		defer os.RemoveAll(work)
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for at := range records {
		r := &records[at]
		if r.Built != nil {
			continue
		}
		group.Go(func() error {
			dir := filepath.Join(work, fmt.Sprint(at))
			if keep != "" {
				dir = filepath.Join(work, filepath.Dir(r.File))
			} else {
				defer os.RemoveAll(dir)
			}
			result, err := buildOne(ctx, o, filepath.Join(folder, r.File), dir, r.Derived)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil { // of the machinery: the next run tries it again
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(out, "%s: not built: %v\n", r.File, err)
				return nil
			}
			r.Built = result
			line, err := json.Marshal(r)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if result.Verdict == oracle.Differs || result.Verdict == oracle.Refused {
				fmt.Fprintf(out, "%s: %s: %s%s\n", r.File, result.Verdict, result.Why, strings.Join(result.Differences[:min(3, len(result.Differences))], "\n    "))
			}
			_, err = fmt.Fprintf(file, "%s\n", line)
			return err
		})
	}
	return group.Wait()
}

// buildOne builds a Dockerfile's case in the folder dir.
func buildOne(ctx context.Context, o *oracle.Oracle, file, dir string, derived corpus.Derived) (*builtRecord, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if derived.BuildKit != "" {
		return &builtRecord{Not: "BuildKit refuses it: " + derived.BuildKit}, nil
	}
	result, err := checkMade(ctx, o, content, derived.Args, filepath.Join(dir, "context"))
	if why := new(corpus.NotMade); errors.As(err, &why) {
		return &builtRecord{Not: why.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	if result.Why == oracle.BothFail {
		return &builtRecord{Not: "its stand-ins do not do: " + result.BuildKitError()}, nil
	}
	return &builtRecord{Verdict: result.Verdict, Why: result.Why, Differences: result.Differences}, nil
}

// checkMade builds the case that a Dockerfile is made into, in the folder dir.
func checkMade(ctx context.Context, o *oracle.Oracle, content []byte, args map[string]string, dir string) (oracle.Result, error) {
	images, err := corpus.Make(ctx, content, args, dir)
	if err != nil {
		return oracle.Result{}, err
	}
	for _, image := range images {
		forget, err := o.Serve(ctx, image.Ref, image.Like, image.Paths)
		if err != nil {
			return oracle.Result{}, fmt.Errorf("serve %s: %w", image.Ref, err)
		}
		defer forget()
	}
	return o.Check(ctx, dir)
}

// summarize writes the counts, and reports whether an image differs or the
// product panics.
func summarize(out io.Writer, records []fileRecord, verbose bool) bool {
	counts := map[string]int{}
	var refused, both, alone, panics, not, differ, refusedBuilds []string
	for _, r := range records {
		named := func(why string) string {
			if verbose {
				fmt.Fprintf(out, "%s: %s\n", r.File, why)
			}
			return why + "  (" + filepath.Dir(r.File) + ")"
		}
		d := r.Derived
		switch {
		case d.Panic != "":
			panics = append(panics, named(d.Panic))
		case d.Refused != "" && d.BuildKit != "":
			both = append(both, "BuildKit: "+d.BuildKit+"; Slipway: "+named(d.Refused))
		case d.Refused != "":
			refused = append(refused, named(d.Refused))
		case d.BuildKit != "":
			alone = append(alone, named(d.BuildKit))
		default:
			counts["derived"]++
		}
		switch b := r.Built; {
		case b == nil:
			counts["not built yet"]++
		case b.Not != "":
			not = append(not, b.Not+"  ("+filepath.Dir(r.File)+")")
		case b.Verdict == oracle.Equal:
			counts["equal"]++
		case b.Verdict == oracle.Refused:
			refusedBuilds = append(refusedBuilds, b.Why+"  ("+filepath.Dir(r.File)+")")
		default:
			differ = append(differ, b.Differences[0]+"  ("+filepath.Dir(r.File)+")")
		}
	}
	fmt.Fprintf(out, "%d Dockerfiles: %d derived, %d refused by both front ends, %d by Slipway's alone, %d by BuildKit's alone, %d panics\n",
		len(records), counts["derived"], len(both), len(refused), len(alone), len(panics))
	fmt.Fprintf(out, "built: %d equal, %d differ, %d refused; %d only derived; %d not built yet\n",
		counts["equal"], len(differ), len(refusedBuilds), len(not), counts["not built yet"])
	for _, group := range []struct {
		title string
		texts []string
	}{
		{"panics", panics}, {"refused by Slipway alone", refused}, {"refused by BuildKit alone", alone},
		{"refused by both", both},
		{"builds that differ", differ}, {"builds refused", refusedBuilds}, {"only derived", not},
	} {
		if len(group.texts) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s:\n", group.title)
		for _, line := range corpus.Reasons(group.texts) {
			fmt.Fprintln(out, line)
		}
	}
	return len(differ) > 0 || len(panics) > 0
}

// readFileRecords reads the corpus's file, by Dockerfile.
func readFileRecords(file string) (map[string]fileRecord, error) {
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	records := map[string]fileRecord{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r fileRecord
		if json.Unmarshal(lines.Bytes(), &r) == nil { // the last may be half of one
			records[r.File] = r
		}
	}
	return records, lines.Err()
}
