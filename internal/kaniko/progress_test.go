package kaniko

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/plan"
)

// A build as kaniko tells of it; each line comes a second after the one before.
// It takes its first snapshot before the first RUN's command, if not before all
// instructions, and reports on its layer cache at any time.
const kanikoLog = "" +
	"\x1b[36mINFO\x1b[0m[0000] Building stage 'golang@sha256:0' [idx: '0', base-idx: '-1'] \n" + // 1
	"\x1b[36mINFO\x1b[0m[0000] Unpacking rootfs as cmd COPY . . requires it. \n" + // 2
	"\x1b[36mINFO\x1b[0m[0001] ENV CGO_ENABLED=0                            \n" + // 3
	"\x1b[36mINFO\x1b[0m[0001] COPY . .                                     \n" + // 4
	"\x1b[36mINFO\x1b[0m[0001] RUN --mount=type=secret,id=x   go mod download &&     go vet \n" + // 5
	"\x1b[36mINFO\x1b[0m[0001] Initializing snapshotter ...                 \n" + // 6
	"\x1b[36mINFO\x1b[0m[0001] Taking snapshot of full filesystem...        \n" + // 7
	"\x1b[36mINFO\x1b[0m[0001] Cmd: /bin/sh                                 \n" + // 8
	"\x1b[36mINFO\x1b[0m[0001] Running: [/bin/sh -c go mod download &&     go vet] \n" + // 9
	"go: downloading corp.example/lib v1.0.0\n" + // 10
	"\x1b[36mINFO\x1b[0m[0002] Skipping push to container registry due to --no-push flag \n" + // 11
	"no line end\x1b[36mINFO\x1b[0m[0002] run go build -o /app .\n" + // 12
	"\x1b[36mINFO\x1b[0m[0002] Running: [/bin/sh -c go build -o /app .] \n" + // 13
	"INFO this is go build's own\n" + // 14
	"\x1b[36mINFO\x1b[0m[0003] Taking snapshot of full filesystem...        \n" + // 15
	"\x1b[36mINFO\x1b[0m[0003] Saving file app for later use                \n" + // 16
	"\x1b[36mINFO\x1b[0m[0003] Deleting filesystem...                       \n" + // 17
	"\x1b[36mINFO\x1b[0m[0003] RUN echo                                     \n" + // 18
	"\x1b[36mINFO\x1b[0m[0003] Found cached layer, extracting to filesystem \n" + // 19
	"\x1b[36mINFO\x1b[0m[0003] ENTRYPOINT [\"/app\"]                        \n" // 20

// newTestOutput has a clock that goes by the lines that have come through.
func newTestOutput(runs ...plan.Run) (*output, *bytes.Buffer) {
	var out bytes.Buffer
	began := time.Unix(0, 0)
	l := newOutput(&plan.Plan{Dockerfile: "build/Dockerfile", Runs: runs}, began, &out)
	l.progress.now = func() time.Time {
		return began.Add(time.Duration(strings.Count(out.String(), "\n")+1) * time.Second)
	}
	return l, &out
}

func TestProgress(t *testing.T) {
	t.Parallel()
	// In another order than kaniko's.
	l, out := newTestOutput(plan.Run{Line: 3, Text: "go build -o /app ."}, plan.Run{Line: 7, Text: "go mod download &&  go vet"}, plan.Run{Line: 9, Text: "echo"})
	for i := 0; i < len(kanikoLog); i += 5 { // as pipes cut it
		if _, err := l.Write([]byte(kanikoLog[i:min(i+5, len(kanikoLog))])); err != nil {
			t.Fatal(err)
		}
	}
	l.progress.begin(nil)
	want := plan.Times{
		Began: time.Unix(0, 0), Base: 2*time.Second + time.Second + time.Second, Copy: time.Second + time.Second, Snapshot: 3*time.Second + time.Second,
		Runs: []plan.RunTime{{Line: 7, Took: 3 * time.Second}, {Line: 3, Took: 2 * time.Second}},
	}
	if diff := cmp.Diff(want, l.progress.times); diff != "" {
		t.Error(diff)
	}
	plain := strings.ReplaceAll("\n"+kanikoLog, "\n\x1b[36mINFO\x1b[0m", "\nINFO")[len("\n"):]
	if diff := cmp.Diff(plain, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWhichRunFailed(t *testing.T) {
	t.Parallel()
	const failed = "error building image: error building stage: failed to execute command: waiting for process to exit: "
	run := func(text string) string {
		return "\x1b[36mINFO\x1b[0m[0001] RUN " + text + "\n\x1b[36mINFO\x1b[0m[0001] Running: [/bin/sh -c " + text + "]\n"
	}
	for name, tc := range map[string]struct{ log, verdict, want string }{
		"a command":       {run("go vet") + run("go build ./..."), failed + "exit status 2\n", "build/Dockerfile:9: RUN go build ./...: failed after 1.0 s, exit status 2"},
		"the same again":  {run("go vet") + run("go vet"), failed + "exit status 2\n", "build/Dockerfile:11: RUN go vet: failed after 1.0 s, exit status 2"},
		"a longer one":    {run("time go vet"), failed + "exit status 2\n", "build/Dockerfile:12: RUN time go vet: failed after 1.0 s, exit status 2"},
		"not in the plan": {run("go test"), failed + "exit status 2\n", "build/Dockerfile: RUN go test: failed after 1.0 s, exit status 2"},
		"many words": {
			run(strings.Repeat("x ", 100)), failed + "exit status 2\n",
			"build/Dockerfile: RUN " + strings.Repeat("x ", 39) + "x…: failed after 1.0 s, exit status 2",
		},
		// This verdict has come through, as it says more.
		"killed": {
			run("go vet"), failed + "signal: killed\n",
			"build/Dockerfile:7: RUN go vet: failed after 2.0 s, signal: killed: the step's memory was most likely used up; raise its limit, or that of the node",
		},
		"no text":                 {"INFO[0001] RUN\nINFO[0001] Running: [\n", failed + "exit status 2\n", "build/Dockerfile: RUN : failed after 1.0 s, exit status 2"},
		"none":                    {run("go vet") + "\x1b[36mINFO\x1b[0m[0001] COPY . .\n", "error building image: no space left on device\n", ""},
		"not the RUN that is run": {run("go vet"), "error building image: error pushing image: no space left on device\n", ""},
		"nothing is known":        {"", failed + "exit status 2\n", ""},
	} {
		l, _ := newTestOutput(plan.Run{Line: 7, Text: "go vet"}, plan.Run{Line: 9, Text: "go build ./..."}, plan.Run{Line: 11, Text: "go vet"}, plan.Run{Line: 12, Text: "time go vet"})
		fmt.Fprint(l, tc.log+tc.verdict)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := l.progress.failure(l.final); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// A RUN can write in kaniko's name as often as it likes.
func TestProgressIsBounded(t *testing.T) {
	t.Parallel()
	l, _ := newTestOutput()
	for range 2 * maxRuns {
		fmt.Fprint(l, "INFO[0000] RUN x\nINFO[0000] Running: [x]\n")
	}
	if got := len(l.progress.times.Runs); got != maxRuns {
		t.Errorf("%d RUNs", got)
	}
}
