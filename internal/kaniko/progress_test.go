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

// aRunAt is a RUN that kaniko carries out as the user wrote it.
func aRunAt(line int, text string) plan.Run { return plan.Run{Line: line, Text: text, As: text} }

func TestProgress(t *testing.T) {
	t.Parallel()
	// In another order than kaniko's.
	l, out := newTestOutput(aRunAt(3, "go build -o /app ."), aRunAt(7, "go mod download &&  go vet"), aRunAt(9, "echo"))
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

// What is an operation is a RUN to kaniko; to the user it is what they wrote.
func TestProgressOfOperations(t *testing.T) {
	t.Parallel()
	const program = "/slipway/bin/prepare"
	operation := func(r plan.Run, index string, instructions ...string) plan.Run {
		r.As, r.Operations = `["`+program+`","operation","/slipway","`+index+`"]`, instructions
		return r
	}
	copies := operation(plan.Run{Line: 3, Text: "COPY . .", Copies: true}, "0", "COPY . .", "WORKDIR /src")
	other := operation(plan.Run{Line: 5, Text: "go build -o /app ."}, "2", "RUN go build -o /app .")
	keeps := operation(plan.Run{Line: 1, Text: "what later stages copy of build", Copies: true, Keeps: true}, "3", "what later stages copy of build")
	last := operation(plan.Run{Line: 8, Text: "COPY --from=build /app /app", Copies: true}, "4", "COPY --from=build /app /app")
	clears := plan.Run{Line: 1, Text: "make ready for the stage", As: `["` + program + `","operation","/slipway","clear"]`, Copies: true, Keeps: true}
	var out bytes.Buffer
	began := time.Unix(0, 0)
	second := 0
	l := newOutput(&plan.Plan{Dockerfile: "Dockerfile", Operate: program, Kept: "/built/kept", Runs: []plan.Run{clears, copies, other, keeps, last}}, began, &out)
	l.progress.now = func() time.Time { return began.Add(time.Duration(second) * time.Second) }
	for _, line := range []struct{ said, shown string }{
		{"Building stage 'golang@sha256:0' [idx: '0', base-idx: '-1']", "="}, // base images from 1
		{"RUN " + copies.As, "COPY . .\nWORKDIR /src"},
		{"Initializing snapshotter ...", "="}, // snapshots from 3
		{"Cmd: " + program, ""},
		{"Args: [operation /slipway 0]", ""},
		{"Running: [" + program + " operation /slipway 0]", ""}, // COPY from 6
		{"Taking snapshot of full filesystem...", "="},          // snapshots from 7
		{"RUN --mount=type=cache,target=/x " + other.As, "RUN go build -o /app ."},
		{"Cmd: " + program, ""},
		{"Args: [operation /slipway 2]", ""},
		{"Running: [" + program + " operation /slipway 2]", ""}, // RUN from 11
		{"RUN " + keeps.As, "what later stages copy of build"},
		{"Running: [" + program + " operation /slipway 3]", ""}, // COPY from 13
		{"Saving file built/kept/stage-0.digest for later use", ""},
		{"Deleting filesystem...", "="},                                                 // base images from 15
		{"COPY --from=build /built/kept/stage-0.digest /built/kept/stage-0.digest", ""}, // COPY from 16
		{"RUN " + last.As, "COPY --from=build /app /app"},
		{"Running: [" + program + " operation /slipway 4]", ""}, // COPY from 18
		{"RUN " + clears.As, ""},
		{"RUN go vet", "="},
		{"Cmd: /bin/sh", "="},
	} {
		second++
		before := out.Len()
		fmt.Fprintf(l, "\x1b[36mINFO\x1b[0m[0001] %-40s\n", line.said)
		var want string
		switch line.shown {
		case "":
		case "=":
			want = fmt.Sprintf("INFO[0001] %-40s\n", line.said)
		default:
			want = "INFO[0001] " + strings.ReplaceAll(line.shown, "\n", "\nINFO[0001] ") + "\n"
		}
		if got := out.String()[before:]; got != want {
			t.Errorf("%s: shown is %q, want %q", line.said, got, want)
		}
	}
	l.progress.begin(nil)
	want := plan.Times{
		Began: began, Base: time.Second + time.Second, Copy: time.Second + 2*time.Second + time.Second + time.Second, Snapshot: 3*time.Second + time.Second,
		Runs: []plan.RunTime{{Line: 5, Took: time.Second}},
	}
	if diff := cmp.Diff(want, l.progress.times); diff != "" {
		t.Error(diff)
	}
}

// One that fails is named as the user wrote it.
func TestWhichOperationFailed(t *testing.T) {
	t.Parallel()
	const as = `["/slipway/bin/prepare","operation","/slipway","0"]`
	for want, run := range map[string]plan.Run{
		"build/Dockerfile:7: COPY a b: failed after 1.0 s, exit status 1":           {Line: 7, Text: "COPY a b", As: as, Copies: true},
		"build/Dockerfile:9: RUN go build ./...: failed after 1.0 s, exit status 1": {Line: 9, Text: "go build ./...", As: as},
	} {
		l, _ := newTestOutput(run)
		fmt.Fprint(l, "INFO[0001] RUN "+as+"\nINFO[0001] Running: [/slipway/bin/prepare operation /slipway 0]\n"+
			"error building image: error building stage: failed to execute command: waiting for process to exit: exit status 1\n")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := l.progress.failure(l.final); got != want {
			t.Errorf("%q, want %q", got, want)
		}
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
			"build/Dockerfile: RUN " + strings.Repeat("x ", 37) + "x…: failed after 1.0 s, exit status 2",
		},
		// This verdict has come through, as it says more.
		"killed": {
			run("go vet"), failed + "signal: killed\n",
			"build/Dockerfile:7: RUN go vet: failed after 2.0 s, signal: killed: the step's memory was most likely used up; raise its limit, or that of the node",
		},
		"no text":                 {"INFO[0001] RUN\nINFO[0001] Running: [\n", failed + "exit status 2\n", "build/Dockerfile: RUN: failed after 1.0 s, exit status 2"},
		"none":                    {run("go vet") + "\x1b[36mINFO\x1b[0m[0001] COPY . .\n", "error building image: no space left on device\n", ""},
		"not the RUN that is run": {run("go vet"), "error building image: error pushing image: no space left on device\n", ""},
		"nothing is known":        {"", failed + "exit status 2\n", ""},
	} {
		l, _ := newTestOutput(aRunAt(7, "go vet"), aRunAt(9, "go build ./..."), aRunAt(11, "go vet"), aRunAt(12, "time go vet"))
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
