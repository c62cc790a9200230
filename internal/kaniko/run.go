package kaniko

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sethvargo/go-envconfig"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// Config is the environment of the step that runs the executor.
type Config struct {
	Prepared string `env:"PREPARED_PATH, required"`   // where prepare left its plan
	Executor string `env:"KANIKO_EXECUTOR, required"` // kaniko's binary in its image

	TerminationLog string `env:"TERMINATION_LOG, required"` // what Tekton's entrypoint says of the step is added there
}

// ErrFailed is returned when kaniko failed, and it has been said why.
var ErrFailed = errors.New("kaniko failed; the reason is above")

// grace is how long kaniko has to end when the step is told to.
const grace = time.Second

// Run carries out the plan that prepare has left: it sets up kaniko's
// container and runs the executor until it ends, or until ctx does. When Run
// returns, no process that it started is left.
//
// The executor removes the root file system it runs in: only ever run it in a
// container of its own.
func Run(ctx context.Context, env envconfig.Lookuper, stdout, stderr io.Writer) error {
	began := time.Now()
	var config Config
	if err := step.Load(ctx, &config, env); err != nil {
		return err
	}
	p, err := plan.Read(config.Prepared)
	if err != nil {
		return err
	}
	if p.Unchanged != nil {
		fmt.Fprintf(stderr, "nothing to build: the inputs are those of %s\n", p.Unchanged.Digest)
		return nil
	}
	// As container runtimes have it for root, and BuildKit for a RUN.
	if err := syscall.Setgroups([]int{0}); err != nil && !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("set the groups of RUN instructions: %w", err)
	}
	caches := holdCaches(p.Cache, stderr)
	if p.Toolchain != nil {
		if err := setUpToolchain(p.Toolchain); err != nil {
			return fmt.Errorf("set up Go from the cache: %w; free room on the node, or set the param toolchain-cache to \"false\"", err)
		}
	}
	account, err := openAccount(p.ActionGraph)
	if err != nil {
		fmt.Fprintf(stderr, "what go commands compile will not be known: %v\n", err)
		for i := range p.Files {
			p.Files[i].Content = withoutAccount(p.Files[i].Content, p.ActionGraph)
		}
	}
	for _, problem := range setUp(p) {
		fmt.Fprintf(stderr, "the build goes on without a cache: %v\n", problem)
	}
	attempt := func() (*output, error) {
		said := newOutput(p, began, stderr)
		return said, execute(ctx, config.Executor, p.Args, p.Env, p.Layers != nil, stdout, said)
	}
	said, err := attempt()
	if errors.Is(err, ErrFailed) && ctx.Err() == nil && caches.full(p) {
		// In the same container, which has what is left of the first time.
		said, err = attempt()
	}
	var why string
	switch {
	case err == nil:
		said.progress.begin(nil)
	case errors.Is(err, ErrFailed):
		why = said.progress.failure(said.final)
	}
	forgetWords(config.TerminationLog, stderr)
	if err == nil {
		countModules(p, stderr) // while the cache is held
	}
	caches.end(ctx, err)
	switch {
	case why != "":
		fmt.Fprintln(stderr, why+caches.kept(p, account))
	case errors.Is(err, ErrFailed) && commandFailed.MatchString(said.final):
		fmt.Fprint(stderr, said.final) // better than nothing
	}
	if err != nil {
		return err
	}
	if err := said.lookups.leave(p.Layers); err != nil {
		fmt.Fprintf(stderr, "which cached layers were used is not known: %v\n", err)
	}
	if account != nil {
		if err := account.leave(p); err != nil {
			fmt.Fprintf(stderr, "what go commands compiled is not known: %v\n", err)
		}
	}
	said.progress.begin(&said.progress.times.Image)
	if err := rewriteLayers(p); err != nil {
		return fmt.Errorf("write the image's new layers: %w", err)
	}
	if err := makeReadable(p.Layout); err != nil {
		return fmt.Errorf("hand the image over to the step push: %w", err)
	}
	if p.Layers != nil {
		if err := makeReadable(string(p.Layers.Folder)); err != nil {
			fmt.Fprintf(stderr, "the layer cache keeps nothing of this build: %v\n", err)
		}
	}
	if err := said.progress.leave(); err != nil {
		fmt.Fprintf(stderr, "what the build's time went to is not known: %v\n", err)
	}
	return nil
}

// forgetWords takes away what RUN instructions have said in this step's name, in
// the file that Tekton's entrypoint adds to. The controller finds results and
// artifacts there, also of a TaskRun that failed, whose step push says nothing.
func forgetWords(terminationLog string, stderr io.Writer) {
	if err := os.Truncate(terminationLog, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(stderr, "what RUN instructions may have said in this step's name stays: %v\n", err)
	}
}

// makeReadable opens the layout to the push step, which runs as another user:
// kaniko writes some of its files for its own user only. Links are left alone.
func makeReadable(layout string) error {
	return filepath.WalkDir(layout, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.Chmod(path, 0o755)
		case entry.Type().IsRegular():
			return os.Chmod(path, 0o644)
		default:
			return nil
		}
	})
}

// setUp makes what the plan wants RUN instructions to find. It serves the
// caches alone, so a problem with it is told and no reason to fail.
func setUp(p *plan.Plan) []error {
	var problems []error
	for _, link := range p.Links {
		if err := makeLink(link); err != nil {
			problems = append(problems, err)
		}
	}
	for _, file := range p.Files {
		if err := makeFile(file); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

func makeLink(link plan.Link) error {
	if err := makeParents(filepath.Dir(link.Path)); err != nil {
		return err
	}
	if target, err := os.Readlink(link.Path); err == nil && target == link.Target {
		return nil
	}
	return os.Symlink(link.Target, link.Path)
}

// makeParents makes the folders that are missing. Below the first whoever runs a
// go command may write, as in the golang images' /go; that one itself has the
// mode that it gets where an image has none and files are copied into it.
func makeParents(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeParents(parent); err != nil {
		return err
	}
	mode := 0o777 | os.ModeSticky
	if parent == "/" {
		mode = 0o755
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

func makeFile(file plan.File) error {
	dir := filepath.Dir(file.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return step.WriteFile(file.Path, []byte(file.Content), 0o644)
}

func execute(ctx context.Context, executor string, args []string, env map[string]string, layers bool, stdout io.Writer, said *output) error {
	// A child's death signal fires when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What a RUN has left running becomes our child when the executor ends.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt kaniko's processes: %w", err)
	}

	// Not a pipe of exec's: Wait would wait for all who have it, and those are
	// ended only when the executor has.
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe for kaniko's output: %w", err)
	}
	defer reader.Close()

	cmd := exec.CommandContext(ctx, executor, args...)
	cmd.Env = os.Environ()
	if layers {
		// An operation that keeps something for later stages has no entry: kaniko
		// is to look for those of later instructions all the same.
		cmd.Env = append(cmd.Env, "FF_KANIKO_CACHE_PROBE_AFTER_MISS=true")
	}
	for _, key := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, key+"="+env[key])
	}
	cmd.Stdout = stdout
	cmd.Stderr = writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace

	if err := errors.Join(cmd.Start(), writer.Close()); err != nil {
		return step.BadInput(fmt.Errorf("start kaniko: %w; is the image of the param kaniko-image one of kaniko's?", err))
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(said, reader)
		copied <- errors.Join(err, said.Close())
	}()
	err = cmd.Wait()
	killRest()
	if deadlineErr := reader.SetReadDeadline(time.Now().Add(grace)); deadlineErr != nil {
		return fmt.Errorf("end kaniko's output: %w", deadlineErr)
	}
	if copyErr := <-copied; copyErr != nil && !errors.Is(copyErr, os.ErrDeadlineExceeded) && err == nil {
		err = copyErr
	}

	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("kaniko was stopped: %w", context.Cause(ctx))
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() < 0:
		return fmt.Errorf("kaniko was ended by a signal (%w): if it was killed, the step's memory was most likely used up; raise its limit, or that of the node", err)
	case errors.As(err, &exit):
		return ErrFailed
	default:
		return fmt.Errorf("run kaniko: %w", err)
	}
}

// killRest ends our remaining children, and theirs, which become ours in turn.
func killRest() {
	for {
		children := childProcesses()
		if len(children) == 0 {
			return
		}
		for _, pid := range children {
			if err := syscall.Kill(pid, syscall.SIGKILL); errors.Is(err, syscall.EPERM) {
				return // not ours to end: the end of the container will
			}
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
	}
}

func childProcesses() []int {
	// Where the kernel has no such files there is nothing to find; the end of
	// the container ends them.
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, list := range lists {
		content, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(content)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
