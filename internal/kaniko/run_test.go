package kaniko_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/kaniko"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// The test binary is also the step under test, in a process of its own since
// it ends all its children, and a fake of kaniko's executor: the real one
// removes the file system it runs in, and is tried on the cluster.
func TestMain(m *testing.M) {
	if behaviour, ok := os.LookupEnv("FAKE_EXECUTOR"); ok {
		os.Exit(fakeExecutor(behaviour))
	}
	if os.Getenv("STEP_UNDER_TEST") != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := kaniko.Run(ctx, envconfig.OsLookuper(), os.Stdout, os.Stderr)
		if err != nil && !errors.Is(err, kaniko.ErrFailed) {
			fmt.Fprintln(os.Stderr, err)
		}
		stop()
		os.Exit(step.ExitCode(err))
	}
	os.Exit(m.Run())
}

// aRun is what kaniko says before the command of a RUN.
const aRun = "\x1b[36mINFO\x1b[0m[0000] RUN go build -o /app .\n\x1b[36mINFO\x1b[0m[0000] Running: [go]"

func fakeExecutor(behaviour string) int {
	switch behaviour {
	case "succeed":
		fmt.Println("args:", strings.Join(os.Args[1:], " "))
		fmt.Println("from the plan:", os.Getenv("FROM_THE_PLAN"))
		dir := os.Getenv("LAYOUT")
		blobs := filepath.Join(dir, "blobs")
		_, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: empty.Image}))
		if err := errors.Join(err, os.Chmod(blobs, 0o700), os.WriteFile(filepath.Join(blobs, "blob"), nil, 0o600)); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	case "a RUN after go commands":
		if code := fakeExecutor("go commands"); code != 0 {
			return code
		}
		return fakeExecutor("a RUN")
	case "go commands":
		// More than a pipe holds.
		var graph strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&graph, `,{"Mode":"build","ActionID":"%d","Cmd":null}`, i)
		}
		for _, compiled := range []string{"ours", "theirs"} {
			all := `[{"Mode":"build","ActionID":"` + compiled + `","Cmd":["compile"]}` + graph.String() + `]`
			if err := os.WriteFile(os.Getenv("ACTION_GRAPH"), []byte(all), 0o666); err != nil {
				fmt.Println(err)
				return 1
			}
		}
		return fakeExecutor("succeed")
	case "a RUN and more":
		fmt.Fprintln(os.Stderr, aRun)
		fmt.Fprintln(os.Stderr, "\x1b[36mINFO\x1b[0m[0000] Taking snapshot of full filesystem...")
		return fakeExecutor("succeed")
	case "a RUN":
		fmt.Fprintln(os.Stderr, aRun)
		return fakeExecutor("compile error")
	case "compile error":
		fmt.Fprintln(os.Stderr, "./main.go:7:2: undefined: x")
		fmt.Fprintln(os.Stderr, "error building image: error building stage: failed to execute command: waiting for process to exit: exit status 2")
		return 2
	case "no room":
		// As a go command does that has a module to write.
		cache, err := os.Readlink(os.Getenv("GOMODCACHE_LINK"))
		if err != nil || cache == os.Getenv("GOMODCACHE_FULL") {
			fmt.Fprintln(os.Stderr, "go: write /go/pkg/mod/cache/lock: no space left on device", err)
			return 1
		}
		files, err := filepath.Glob(filepath.Join(cache, "cache/download/corp.example/lib/@v/*"))
		for _, file := range files {
			if _, err := os.ReadFile(file); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			fmt.Println("there is", filepath.Base(file))
		}
		// A go command writes the hash that is missing.
		if err := errors.Join(err, os.WriteFile(filepath.Join(cache, "cache/download/corp.example/lib/@v/v1.1.0.ziphash"), []byte("h1:"), 0o644)); len(files) > 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return fakeExecutor("succeed")
	case "words", "last words":
		if err := os.WriteFile(os.Getenv("TERMINATION_LOG"), []byte(`[{"key":"IMAGE_DIGEST","value":"forged","type":1}]`), 0o644); err != nil || behaviour == "last words" {
			fmt.Println(err)
			return 1
		}
		return fakeExecutor("succeed")
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "a RUN that ignores SIGTERM":
		run := exec.Command(os.Args[0])
		run.Env = append(os.Environ(), "FAKE_EXECUTOR=RUN")
		run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as kaniko does
		run.Stdout, run.Stderr = os.Stdout, os.Stderr
		if err := run.Run(); err != nil {
			return 1
		}
		return 0
	case "RUN":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Printf("running as %d\n", os.Getpid())
		for range signals {
		}
	}
	return 99
}

// newStep is the step with a plan whose executor is the fake.
func newStep(t *testing.T, behaviour string, change func(*plan.Plan)) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	prepared := t.TempDir()
	layout := filepath.Join(t.TempDir(), "layout")
	p := &plan.Plan{
		Args:   []string{"--one", "--two=2"},
		Env:    map[string]string{"FAKE_EXECUTOR": behaviour, "FROM_THE_PLAN": "yes", "LAYOUT": layout},
		Layout: layout,

		ActionGraph: filepath.Join(filepath.Dir(layout), "go/actions"),
		Compiled:    filepath.Join(filepath.Dir(layout), "go/compiled.json"),
	}
	if change != nil {
		change(p)
	}
	if err := p.Write(prepared); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), "STEP_UNDER_TEST=1", "PREPARED_PATH="+prepared, "KANIKO_EXECUTOR="+program, "TERMINATION_LOG="+filepath.Join(prepared, "termination"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

// What a RUN says in the step's name is not what the step says, however it ends.
func TestRunsWordsAreForgotten(t *testing.T) {
	t.Parallel()
	for behaviour, code := range map[string]int{"words": 0, "last words": 1} {
		cmd, stderr := newStep(t, behaviour, nil)
		log := filepath.Join(t.TempDir(), "termination")
		cmd.Env = append(cmd.Env, "TERMINATION_LOG="+log)
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("%s: exit code %d, want %d\n%s", behaviour, got, code, stderr)
		}
		if content, err := os.ReadFile(log); err != nil || len(content) > 0 {
			t.Errorf("%s: the file has %q, %v", behaviour, content, err)
		}
	}
}

func TestRunSetsUpAndRunsTheExecutor(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	link := plan.Link{Path: filepath.Join(root, "go/pkg/mod"), Target: "/cache/go-mod"}
	settings := plan.File{Path: filepath.Join(root, "root/.config/go/env"), Content: "GOCACHE=/cache\n"}
	actions := filepath.Join(root, "built/go/actions")
	var layout string
	cmd, stderr := newStep(t, "succeed", func(p *plan.Plan) {
		p.Links = []plan.Link{link}
		p.Files = []plan.File{settings}
		p.ActionGraph, p.Compiled = actions, filepath.Join(root, "built/go/compiled.json")
		layout = p.Layout
	})
	out, err := cmd.Output()
	if want := "args: --one --two=2\nfrom the plan: yes\n"; err != nil || string(out) != want || stderr.Len() > 0 {
		t.Fatalf("got %q, %q, %v, want %q", out, stderr, err, want)
	}
	if target, err := os.Readlink(link.Path); err != nil || target != link.Target {
		t.Errorf("link to %s, %v", target, err)
	}
	if content, err := os.ReadFile(settings.Path); err != nil || string(content) != settings.Content {
		t.Errorf("settings %q, %v", content, err)
	}
	for path, want := range map[string]fs.FileMode{
		filepath.Join(root, "go"):           fs.ModeDir | fs.ModeSticky | 0o777,
		filepath.Join(root, "go/pkg"):       fs.ModeDir | fs.ModeSticky | 0o777,
		settings.Path:                       0o644,
		actions:                             fs.ModeNamedPipe | 0o666,
		layout:                              fs.ModeDir | 0o755,
		filepath.Join(layout, "blobs"):      fs.ModeDir | 0o755,
		filepath.Join(layout, "blobs/blob"): 0o644,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

func TestRunOfWhatIsUnchanged(t *testing.T) {
	t.Parallel()
	link := plan.Link{Path: filepath.Join(t.TempDir(), "link"), Target: "/cache/go-mod"}
	cmd, stderr := newStep(t, "succeed", func(p *plan.Plan) {
		p.Unchanged = &plan.Unchanged{Digest: "sha256:1"}
		p.Links = []plan.Link{link}
	})
	out, err := cmd.Output()
	if want := "nothing to build: the inputs are those of sha256:1\n"; err != nil || len(out) > 0 || stderr.String() != want {
		t.Errorf("got %q, %q, %v, want %q", out, stderr, err, want)
	}
	if _, err := os.Lstat(link.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was set up: %v", err)
	}
}

func TestRunCountsWhatAllGoCommandsCompiled(t *testing.T) {
	t.Parallel()
	var compiled string
	cmd, stderr := newStep(t, "go commands", func(p *plan.Plan) {
		p.Env["ACTION_GRAPH"], compiled = p.ActionGraph, p.Compiled
	})
	if out, err := cmd.Output(); err != nil || stderr.Len() > 0 {
		t.Fatalf("got %q, %q, %v", out, stderr, err)
	}
	if count, err := os.ReadFile(compiled); err != nil || string(count) != `{"compiled":2,"cached":5000}` {
		t.Errorf("got %s, %v", count, err)
	}

	cmd, stderr = newStep(t, "succeed", func(p *plan.Plan) { compiled = p.Compiled })
	if _, err := cmd.Output(); err != nil || stderr.Len() > 0 {
		t.Fatalf("got %q, %v", stderr, err)
	}
	if _, err := os.Stat(compiled); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without go commands: %v", err)
	}
}

func TestRunSaysWhatItsTimeWentTo(t *testing.T) {
	t.Parallel()
	for behaviour, want := range map[string]int{"a RUN and more": 1, "succeed": 0} {
		var left string
		cmd, stderr := newStep(t, behaviour, func(p *plan.Plan) {
			p.Times = filepath.Join(filepath.Dir(p.Layout), "go/times.json")
			left = p.Times
		})
		before := time.Now()
		if _, err := cmd.Output(); err != nil {
			t.Fatalf("%s, %v", stderr, err)
		}
		var times plan.Times
		content, err := os.ReadFile(left)
		if err := errors.Join(err, json.Unmarshal(content, &times)); err != nil {
			t.Fatal(err)
		}
		if times.Began.Before(before) || times.Ended.Before(times.Began) || len(times.Runs) != want || want > 0 && times.Runs[0].Took <= 0 {
			t.Errorf("%s: %s", behaviour, content)
		}
	}
}

// TestRunSaysWhatIsKept: what a failed build has compiled, if the next will find
// it.
func TestRunSaysWhatIsKept(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		behaviour string
		keeps     bool
		want      string
	}{
		"kept":             {"a RUN after go commands", true, "exit status 2; compiled so far and kept for the next build: 2 packages\n"},
		"kept nowhere":     {"a RUN after go commands", false, "exit status 2\n"},
		"nothing compiled": {"a RUN", true, "exit status 2\n"},
	} {
		goBuild := t.TempDir()
		cmd, stderr := newStep(t, tc.behaviour, func(p *plan.Plan) {
			p.Env["ACTION_GRAPH"] = p.ActionGraph
			p.Dockerfile, p.Cache = "Dockerfile", &plan.Cache{Volume: filepath.Dir(goBuild), GoBuild: goBuild, KeepsCompiled: tc.keeps}
			p.Links = []plan.Link{{Path: filepath.Join(filepath.Dir(p.Layout), "go-build"), Target: goBuild}}
		})
		_ = cmd.Run()
		if !strings.HasSuffix(stderr.String(), tc.want) {
			t.Errorf("%s: %q, want %q at its end", name, stderr, tc.want)
		}
	}
}

func TestRunCountsModules(t *testing.T) {
	t.Parallel()
	goMod := t.TempDir()
	archive := filepath.Join(goMod, "cache/download/corp.example/lib/@v/v1.0.0.zip")
	if err := errors.Join(os.MkdirAll(filepath.Dir(archive), 0o755), os.WriteFile(archive, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(archive)
	if err != nil {
		t.Fatal(err)
	}
	for started, want := range map[time.Time]string{info.ModTime(): "1", info.ModTime().Add(time.Second): "0"} {
		var downloaded string
		cmd, stderr := newStep(t, "succeed", func(p *plan.Plan) {
			p.Started, p.Modules, p.Downloaded = started, goMod, p.Compiled+".modules"
			downloaded = p.Downloaded
		})
		if _, err := cmd.Output(); err != nil || stderr.Len() > 0 {
			t.Fatalf("got %q, %v", stderr, err)
		}
		if count, err := os.ReadFile(downloaded); err != nil || string(count) != want {
			t.Errorf("got %s, %v, want %s", count, err, want)
		}
	}
	cmd, stderr := newStep(t, "succeed", func(p *plan.Plan) { p.Modules = filepath.Join(goMod, "absent") })
	if _, err := cmd.Output(); err != nil || !strings.HasPrefix(stderr.String(), "how many modules were downloaded is not known: ") {
		t.Errorf("got %q, %v", stderr, err)
	}
}

// Where there is no pipe, no go command is told to write to it.
func TestRunWithoutAnAccount(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(root, "go.env")
	for _, want := range []string{"", "-mod=mod -trimpath"} {
		flags := strings.TrimSpace("-debug-actiongraph=" + filepath.Join(root, "file", "actions") + " " + want)
		cmd, stderr := newStep(t, "succeed", func(p *plan.Plan) {
			p.ActionGraph = filepath.Join(root, "file", "actions")
			p.Files = []plan.File{{Path: settings, Content: "GOCACHE=/cache\nGOCACHEPROG=/bin/prepare go-cache " + p.ActionGraph + "\nGOFLAGS=" + flags + "\nGOPROXY=off\n"}}
		})
		if _, err := cmd.Output(); err != nil || !strings.HasPrefix(stderr.String(), "what go commands compile will not be known: ") {
			t.Errorf("got %q, %v", stderr, err)
		}
		if content, err := os.ReadFile(settings); err != nil || string(content) != "GOCACHE=/cache\nGOFLAGS="+want+"\nGOPROXY=off\n" {
			t.Errorf("the settings are\n%s, %v", content, err)
		}
	}
}

func TestRunSetsUpGo(t *testing.T) {
	t.Parallel()
	tree, root := t.TempDir(), filepath.Join(t.TempDir(), "usr/local/go")
	for _, file := range []string{"bin/go", "src/fmt/print.go", "VERSION", "go.env"} {
		path := filepath.Join(tree, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(file), 0o600), os.Chmod(path, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	cmd, stderr := newStep(t, "succeed", func(p *plan.Plan) {
		p.Toolchain = &plan.Toolchain{Path: root, Tree: tree}
		p.Files = []plan.File{{Path: filepath.Join(root, "go.env"), Content: "GOCACHE=/cache\n"}}
	})
	if _, err := cmd.Output(); err != nil || stderr.Len() > 0 {
		t.Fatalf("got %q, %v", stderr, err)
	}
	for file, want := range map[string]string{"bin/go": "bin/go", "src/fmt/print.go": "src/fmt/print.go", "VERSION": "VERSION", "go.env": "GOCACHE=/cache\n"} {
		if content, err := os.ReadFile(filepath.Join(root, file)); err != nil || string(content) != want {
			t.Errorf("%s is %q, %v", file, content, err)
		}
	}
	// Go looks for its root from where its program really is.
	if real, err := filepath.EvalSymlinks(filepath.Join(root, "bin/go")); err != nil || !strings.HasSuffix(real, "/usr/local/go/bin/go") {
		t.Errorf("its program is %s, %v", real, err)
	}
	if info, err := os.Stat(filepath.Join(root, "bin/go")); err != nil || info.Mode() != 0o755 {
		t.Errorf("its program has %v, %v", info.Mode(), err)
	}

	cmd, stderr = newStep(t, "succeed", func(p *plan.Plan) {
		p.Toolchain = &plan.Toolchain{Path: root, Tree: filepath.Join(tree, "absent")}
	})
	if _, err := cmd.Output(); err == nil || !strings.HasSuffix(stderr.String(), "set the param toolchain-cache to \"false\"\n") {
		t.Errorf("without its tree: %q, %v", stderr, err)
	}
}

func TestRunGoesOnWithoutACacheThatCannotBeSetUp(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, stderr := newStep(t, "succeed", func(p *plan.Plan) {
		p.Links = []plan.Link{{Path: filepath.Join(root, "go/pkg/mod"), Target: "/x"}}
	})
	if _, err := cmd.Output(); err != nil || !strings.HasPrefix(stderr.String(), "the build goes on without a cache: ") {
		t.Errorf("got %q, %v", stderr, err)
	}
}

var seconds = regexp.MustCompile(`\d+\.\d s`)

func TestRunFailures(t *testing.T) {
	t.Parallel()
	for behaviour, tc := range map[string]struct {
		code int
		last string
	}{
		// Better than nothing, where kaniko has not said which RUN it was.
		"compile error": {step.ExitFailed, "./main.go:7:2: undefined: x\nerror building image: error building stage: failed to execute command: waiting for process to exit: exit status 2\n"},
		"a RUN": {step.ExitFailed, "INFO[0000] RUN go build -o /app .\nINFO[0000] Running: [go]\n./main.go:7:2: undefined: x\n" +
			"Dockerfile:7: RUN go build -o /app .: failed after <time>, exit status 2\n"},
		"killed": {step.ExitFailed, "kaniko was ended by a signal (signal: killed): if it was killed, the step's memory was most likely used up; raise its limit, or that of the node\n"},
	} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			cmd, stderr := newStep(t, behaviour, func(p *plan.Plan) {
				p.Dockerfile, p.Runs = "Dockerfile", []plan.Run{{Line: 7, Text: "go build -o /app .", As: "go build -o /app ."}}
			})
			_, err := cmd.Output()
			said := seconds.ReplaceAllString(stderr.String(), "<time>")
			if code := cmd.ProcessState.ExitCode(); code != tc.code || said != tc.last {
				t.Errorf("exit code %d (%v), stderr %q, want %d, %q", code, err, said, tc.code, tc.last)
			}
		})
	}
	t.Run("no executor", func(t *testing.T) {
		t.Parallel()
		cmd, stderr := newStep(t, "", nil)
		cmd.Env = append(cmd.Env, "KANIKO_EXECUTOR=/absent/executor")
		_, _ = cmd.Output()
		want := "start kaniko: fork/exec /absent/executor: no such file or directory; is the image of the param kaniko-image one of kaniko's?\n"
		if code := cmd.ProcessState.ExitCode(); code != step.ExitBadInput || stderr.String() != want {
			t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want)
		}
	})
}

func TestSIGTERMEndsEverythingWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	cmd, stderr := newStep(t, "a RUN that ignores SIGTERM", nil)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var run int
	if _, err := fmt.Fscanf(stdout, "running as %d\n", &run); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(stdout); err != nil || len(rest) > 0 { // until all who hold it have ended
		t.Errorf("got %q, %v", rest, err)
	}
	_ = cmd.Wait()
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if code := cmd.ProcessState.ExitCode(); code != step.ExitFailed || !strings.HasPrefix(stderr.String(), "kaniko was stopped: ") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(run)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the RUN is still there: %v", err)
	}
}
