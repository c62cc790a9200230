package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/slipway-ci/slipway/internal/operation"
)

// base is the configuration of the image base.
const base = `{"created":"2026-01-02T03:04:05Z","author":"its own","architecture":"amd64","os":"linux",
"config":{"User":"7:8","ExposedPorts":{"53/udp":{}},"Env":["PATH=/bin","LANG=C"],"Entrypoint":["/entry"],"Cmd":["serve"],"Volumes":{"/data":{}},
"WorkingDir":"/srv","Labels":{"vendor":"base","kept":"yes"},"StopSignal":"SIGQUIT","OnBuild":null,
"Healthcheck":{"Test":["CMD","/check"],"Interval":1000000000,"StartInterval":2000000000},"Shell":["/bin/ash","-c"]},
"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]},
"history":[{"created_by":"ADD rootfs"}]}`

var platform = ocispecs.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}

func configs(_ context.Context, ref string) ([]byte, error) {
	switch ref {
	case "docker.io/library/base:latest":
		return []byte(base), nil
	case "docker.io/library/bare:latest":
		return []byte(`{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}`), nil
	}
	return nil, fmt.Errorf("no image %s", ref)
}

func read(t *testing.T, content string, change func(*Options)) (*Definition, error) {
	t.Helper()
	o := Options{Platform: platform, Config: configs}
	if change != nil {
		change(&o)
	}
	return Read(t.Context(), []byte(content), o)
}

func mustRead(t *testing.T, content string) *Definition {
	t.Helper()
	d, err := read(t, content, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestConfig: the configuration is what BuildKit writes, which is what the
// Dockerfile says.
func TestConfig(t *testing.T) {
	t.Parallel()
	const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for name, tc := range map[string]struct {
		content string
		change  func(*Options)
		want    map[string]any // of the fields of config that are named; nil for one that is not there
	}{
		"labels as they are quoted": {
			"FROM scratch\nLABEL a=\"b c\" d='e \"f\"' g=h\\ i \"j k\"=l\nLABEL old form\nLABEL empty= e=$A\n", nil,
			map[string]any{"Labels": map[string]any{"a": "b c", "d": `e "f"`, "g": "h i", "j k": "l", "old": "form", "empty": "", "e": ""}},
		},
		"ports": {
			"FROM scratch\nARG P=9\nEXPOSE 80 443/udp 8000-8002/tcp $P\n", nil,
			map[string]any{"ExposedPorts": map[string]any{"80/tcp": map[string]any{}, "443/udp": map[string]any{}, "8000/tcp": map[string]any{}, "8001/tcp": map[string]any{}, "8002/tcp": map[string]any{}, "9/tcp": map[string]any{}}},
		},
		"health": {
			"FROM scratch\nHEALTHCHECK --interval=5s --timeout=3s --start-period=1m --start-interval=2s --retries=4 CMD [\"/check\"]\n", nil,
			map[string]any{"Healthcheck": map[string]any{"Test": []any{"CMD", "/check"}, "Interval": 5e9, "Timeout": 3e9, "StartPeriod": 60e9, "StartInterval": 2e9, "Retries": 4.}},
		},
		"no health": {"FROM base\nHEALTHCHECK NONE\n", nil, map[string]any{"Healthcheck": map[string]any{"Test": []any{"NONE"}}}},
		"environment": {
			"FROM bare\nARG V=1\nENV A=$V B='$V' C=\"x ${V:-2} y\" D=${UNSET:-3}\nENV E the rest of the line\nARG A=hidden\nENV F=$A\n",
			func(o *Options) { o.BuildArgs = map[string]string{"V": "9"} },
			map[string]any{"Env": []any{defaultPath, "A=9", "B=$V", "C=x 9 y", "D=3", "E=the rest of the line", "F=hidden"}}, // an ARG counts from where it stands
		},
		"an environment's own PATH": {"FROM bare\nENV PATH=/only\n", nil, map[string]any{"Env": []any{"PATH=/only"}}},
		"the platform's PATH":       {"FROM scratch\nCMD [\"/x\"]\n", nil, map[string]any{"Env": []any{defaultPath}, "Cmd": []any{"/x"}}},
		"automatic args":            {"FROM scratch\nARG TARGETARCH TARGETVARIANT\nENV T=$TARGETARCH/$TARGETVARIANT\n", nil, map[string]any{"Env": []any{defaultPath, "T=arm64/v8"}}},
		"args before FROM":          {"ARG V=1\nFROM scratch\nENV A=$V\nARG V\nENV B=$V\n", nil, map[string]any{"Env": []any{defaultPath, "A=", "B=1"}}},
		"a base's": {"FROM base\nLABEL mine=too vendor=me\nENV LANG=de MORE=x\nEXPOSE 80\nVOLUME [\"/more\"]\n", nil, map[string]any{
			"User": "7:8", "Env": []any{"PATH=/bin", "LANG=de", "MORE=x"}, "Entrypoint": []any{"/entry"}, "Cmd": []any{"serve"}, "WorkingDir": "/srv", "StopSignal": "SIGQUIT",
			"Labels": map[string]any{"vendor": "me", "kept": "yes", "mine": "too"}, "ExposedPorts": map[string]any{"53/udp": map[string]any{}, "80/tcp": map[string]any{}},
			"Volumes": map[string]any{"/data": map[string]any{}, "/more": map[string]any{}}, "Shell": []any{"/bin/ash", "-c"},
			"Healthcheck": map[string]any{"Test": []any{"CMD", "/check"}, "Interval": 1e9, "StartInterval": 2e9},
		}},
		"ENTRYPOINT takes the base's CMD away": {"FROM base\nENTRYPOINT [\"/other\"]\n", nil, map[string]any{"Entrypoint": []any{"/other"}, "Cmd": nil}},
		"and not one of its own":               {"FROM base\nCMD [\"x\"]\nENTRYPOINT [\"/other\"]\n", nil, map[string]any{"Entrypoint": []any{"/other"}, "Cmd": []any{"x"}}},
		"the shell form, by the base's shell":  {"FROM base\nCMD run it\n", nil, map[string]any{"Cmd": []any{"/bin/ash", "-c", "run it"}}},
		"the shell form, by its own shell":     {"FROM base\nSHELL [\"/bin/bash\", \"-ec\"]\nENTRYPOINT run it\n", nil, map[string]any{"Entrypoint": []any{"/bin/bash", "-ec", "run it"}, "Shell": []any{"/bin/bash", "-ec"}}},
		"WORKDIR upon the base's":              {"FROM base\nWORKDIR sub\nWORKDIR ../other\n", nil, map[string]any{"WorkingDir": "/srv/other"}},
		"USER":                                 {"FROM base\nARG U=app\nUSER $U:staff\n", nil, map[string]any{"User": "app:staff"}},
		"STOPSIGNAL":                           {"FROM base\nSTOPSIGNAL 9\n", nil, map[string]any{"StopSignal": "9"}},
		"ONBUILD":                              {"FROM scratch\nONBUILD COPY . /src\n", nil, map[string]any{"OnBuild": []any{"COPY . /src"}}},
		"a stage's":                            {"FROM base AS one\nENV ONE=1\nFROM bare AS two\nENV TWO=2\nFROM one\nENV THREE=3\n", nil, map[string]any{"Env": []any{"PATH=/bin", "LANG=C", "ONE=1", "THREE=3"}}},
		"the target's":                         {"FROM scratch AS one\nENV ONE=1\nFROM one\nENV TWO=2\n", func(o *Options) { o.Target = "one" }, map[string]any{"Env": []any{defaultPath, "ONE=1"}}},
		"labels given last": {
			"FROM base\nLABEL vendor=me mine=too\n", func(o *Options) { o.Labels = map[string]string{"vendor": "param", "new": `with "quotes"`} },
			map[string]any{"Labels": map[string]any{"vendor": "param", "kept": "yes", "mine": "too", "new": `with "quotes"`}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := read(t, tc.content, tc.change)
			if err != nil {
				t.Fatal(err)
			}
			var image struct {
				Config map[string]any `json:"config"`
			}
			if err := json.Unmarshal(d.Config, &image); err != nil {
				t.Fatal(err)
			}
			for field, want := range tc.want {
				if diff := cmp.Diff(want, image.Config[field]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", field, diff)
				}
			}
		})
	}
}

// What push adds is not in it, and the image is of the platform that was asked for.
func TestConfigOfTheImage(t *testing.T) {
	t.Parallel()
	var image map[string]any
	if err := json.Unmarshal(mustRead(t, "FROM bare\nMAINTAINER me\nRUN true\n").Config, &image); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"created": nil, "history": nil, "author": "me", "os": "linux", "architecture": "arm64"} {
		if !reflect.DeepEqual(image[name], want) {
			t.Errorf("%s is %v, want %v", name, image[name], want)
		}
	}
	if rootfs, ok := image["rootfs"].(map[string]any); ok && rootfs["diff_ids"] != nil {
		t.Errorf("it has the layers %v", rootfs)
	}
}

// TestErrors: what is wrong with a Dockerfile comes with its line.
func TestErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		content string
		target  string
		line    int
		text    string
	}{
		"an unknown instruction": {"FROM scratch\n\nCOPPY a b\n", "", 3, "unknown instruction: COPPY"},
		"an unknown flag":        {"FROM scratch\nCOPY --frm=x a b\n", "", 2, "unknown flag: --frm"},
		"a bad port":             {"FROM scratch\nENV A=b\nEXPOSE 80x\n", "", 3, "80x"},
		"a bad mode":             {"FROM scratch\nCOPY --chmod=999 a b\n", "", 2, "999"},
		"a stage that is not":    {"FROM scratch\n", "absent", 0, "absent"},
		"itself":                 {"FROM scratch AS a\nCOPY --from=a x y\n", "", 2, "circular"},
		"a bad duration":         {"FROM scratch\n\n\nHEALTHCHECK --interval=5 CMD x\n", "", 4, "5"},
		"a bad mount":            {"FROM bare\nRUN --mount=type=wrong true\n", "", 2, "wrong"},
		"a bad image":            {"FROM scratch AS a\nFROM Not:a:name\n", "", 2, "Not:a:name"},
		"a variable's modifier":  {"FROM scratch\nENV A=${B:!}\n", "", 2, "modifier"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(t, tc.content, func(o *Options) { o.Target = tc.target })
			var at *Error
			if !errors.As(err, &at) || at.Line != tc.line || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %T %+v, want line %d and %q", err, err, tc.line, tc.text)
			}
		})
	}
	refused := errors.New("connection refused")
	if _, err := read(t, "FROM base\n", func(o *Options) {
		o.Config = func(context.Context, string) ([]byte, error) { return nil, refused }
	}); !errors.Is(err, refused) {
		t.Errorf("of a base that cannot be had: %v", err)
	}
}

func number(n uint32) *operation.Identity { return &operation.Identity{ID: n} }

func TestCopy(t *testing.T) {
	t.Parallel()
	mode := func(m uint32) *uint32 { return &m }
	plain := func(src, dest string) operation.CopyAction {
		return operation.CopyAction{Src: src, Dest: dest, Wildcard: true, FollowSymlink: true, DirContents: true, AllowEmptyWildcard: true}
	}
	change := func(a operation.CopyAction, change func(*operation.CopyAction)) operation.CopyAction {
		change(&a)
		return a
	}
	for name, tc := range map[string]struct {
		instruction string // after FROM base AS other, FROM base and WORKDIR
		stage       string
		want        operation.Copy
	}{
		"to the WORKDIR":  {"COPY a b/", "", operation.Copy{Actions: []operation.CopyAction{plain("/a", "/srv/w/b/")}}},
		"everything":      {"COPY . .", "", operation.Copy{Actions: []operation.CopyAction{plain("/", "/srv/w/")}}},
		"a file's name":   {"COPY a b", "", operation.Copy{Actions: []operation.CopyAction{plain("/a", "/srv/w/b")}}},
		"several":         {"COPY a* b /c/", "", operation.Copy{Actions: []operation.CopyAction{plain("/a*", "/c/"), plain("/b", "/c/")}}},
		"out of the root": {"COPY ../../a /b", "", operation.Copy{Actions: []operation.CopyAction{plain("/a", "/b")}}},
		"variables":       {"COPY ${LANG}.txt /$LANG", "", operation.Copy{Actions: []operation.CopyAction{plain("/C.txt", "/C")}}},
		"JSON":            {`COPY ["a b", "/c d/"]`, "", operation.Copy{Actions: []operation.CopyAction{plain("/a b", "/c d/")}}},
		"an owner by name": {"COPY --chown=app:staff a /b", "", operation.Copy{Actions: []operation.CopyAction{change(plain("/a", "/b"), func(a *operation.CopyAction) {
			a.Owner = &operation.Owner{User: &operation.Identity{Name: "app"}, Group: &operation.Identity{Name: "staff"}}
		})}}},
		"an owner by number": {"COPY --chown=7:8 a /b", "", operation.Copy{Actions: []operation.CopyAction{change(plain("/a", "/b"), func(a *operation.CopyAction) {
			a.Owner = &operation.Owner{User: number(7), Group: number(8)}
		})}}},
		"a user alone": {"COPY --chown=7 a /b", "", operation.Copy{Actions: []operation.CopyAction{change(plain("/a", "/b"), func(a *operation.CopyAction) {
			a.Owner = &operation.Owner{User: number(7)}
		})}}},
		"a mode":          {"COPY --chmod=0750 a /b", "", operation.Copy{Actions: []operation.CopyAction{change(plain("/a", "/b"), func(a *operation.CopyAction) { a.Mode = mode(0o750) })}}},
		"linked":          {"COPY --link a /b", "", operation.Copy{Link: true, Actions: []operation.CopyAction{plain("/a", "/b")}}},
		"with exceptions": {"COPY --exclude=*.md --exclude=!a.md . /b/", "", operation.Copy{Actions: []operation.CopyAction{change(plain("/", "/b/"), func(a *operation.CopyAction) { a.Exclude = []string{"*.md", "!a.md"} })}}},
		"of a stage":      {"COPY --from=other /a /b", "stage-0", operation.Copy{Actions: []operation.CopyAction{change(plain("/a", "/b"), func(a *operation.CopyAction) { a.From.Stage = "stage-0" })}}},
		"an archive":      {"ADD a.tar /b/", "", operation.Copy{Actions: []operation.CopyAction{change(plain("/a.tar", "/b/"), func(a *operation.CopyAction) { a.Unpack = true })}}},
		"a URL": {"ADD --checksum=sha256:" + strings.Repeat("a", 64) + " https://files.example/x/y.txt?z=1 /b/", "", operation.Copy{Actions: []operation.CopyAction{{
			From: operation.Source{URL: &operation.URL{URL: "https://files.example/x/y.txt?z=1", Name: "y.txt", Checksum: "sha256:" + strings.Repeat("a", 64)}},
			Src:  "/y.txt", Dest: "/b/",
		}}}},
		"a here-document": {"COPY <<E /b\nhello $LANG\nE", "", operation.Copy{Actions: []operation.CopyAction{{
			From: operation.Source{Inline: &operation.Inline{Name: "/E", Mode: 0o644, Data: []byte("hello C\n")}}, Src: "/E", Dest: "/b",
		}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := mustRead(t, "FROM bare AS other\nRUN true\nFROM base\nUSER root\nWORKDIR w\n"+tc.instruction+"\n")
			got, err := d.Copy(Place{Line: 6}, tc.stage)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got, cmpopts.IgnoreUnexported(operation.CopyAction{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCopyOfWhatIsNotCopied(t *testing.T) {
	t.Parallel()
	d := mustRead(t, "FROM bare\nADD https://git.example/a.git#v1 /a\nADD git@git.example:b.git /b\nRUN true\n")
	for _, line := range []int{2, 3} {
		if _, err := d.Copy(Place{Line: line}, ""); !errors.Is(err, ErrGit) {
			t.Errorf("line %d: %v", line, err)
		}
	}
	if _, err := d.Copy(Place{Line: 4}, ""); err == nil || errors.Is(err, ErrGit) {
		t.Errorf("of a RUN: %v", err)
	}
	if _, err := d.Exec(Place{Line: 2}, nil); err == nil {
		t.Error("an ADD is a RUN")
	}
}

// The instructions of an ONBUILD are all at the line of the FROM.
func TestPlaces(t *testing.T) {
	t.Parallel()
	d := mustRead(t, "FROM bare AS one\nONBUILD COPY a /a\nONBUILD RUN first\nONBUILD WORKDIR /w\nONBUILD COPY b c\nONBUILD RUN second\nFROM one\nCOPY d /d\n")
	for index, want := range []string{"/a", "/w/c"} {
		if got, err := d.Copy(Place{Line: 7, Index: index}, ""); err != nil || got.Actions[0].Dest != want {
			t.Errorf("copy %d: %+v, %v, want one to %s", index, got, err, want)
		}
	}
	for index, want := range []string{"first", "second"} {
		if got, err := d.Exec(Place{Line: 7, Index: index}, nil); err != nil || got.Args[2] != want {
			t.Errorf("run %d: %+v, %v, want %s", index, got, err, want)
		}
	}
	if m := d.Mkdir(Place{Line: 7}); m == nil || m.Path != "/w" {
		t.Errorf("the folder: %+v", m)
	}
	if _, err := d.Copy(Place{Line: 7, Index: 2}, ""); err == nil {
		t.Error("there is a third copy")
	}
}

func TestMkdir(t *testing.T) {
	t.Parallel()
	d := mustRead(t, "FROM base\nWORKDIR a\nUSER app\nWORKDIR b\nWORKDIR /\n")
	want := []*operation.Mkdir{
		{Path: "/srv/a", Mode: 0o755, Owner: &operation.Owner{User: number(7), Group: number(8)}},
		{Path: "/srv/a/b", Mode: 0o755, Owner: &operation.Owner{User: &operation.Identity{Name: "app"}}},
		nil,
	}
	for i, line := range []int{2, 4, 5} {
		if diff := cmp.Diff(want[i], d.Mkdir(Place{Line: line})); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", line, diff)
		}
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	env := []string{"PATH=/bin", "LANG=C"}
	sh := func(text string) []string { return []string{"/bin/ash", "-c", text} }
	stages := func(target, _ string) string {
		return map[string]string{"/tools": "stage-0", "/usr/bin/tool": "stage-0"}[target]
	}
	for name, tc := range map[string]struct {
		instruction string
		want        operation.Exec
	}{
		"a shell":   {"RUN go build", operation.Exec{Args: sh("go build"), Env: env, Dir: "/srv", User: "7:8"}},
		"a program": {`RUN ["go", "build"]`, operation.Exec{Args: []string{"go", "build"}, Env: env, Dir: "/srv", User: "7:8"}},
		"a script":  {"RUN <<E\nset -e\necho\nE", operation.Exec{Args: sh("set -e\necho\n"), Env: env, Dir: "/srv", User: "7:8"}},
		"a program of its own": {"RUN <<E\n#!/bin/awk -f\nBEGIN\nE", operation.Exec{
			Args: sh("/dev/pipes/E"), Env: env, Dir: "/srv", User: "7:8", Script: []byte("#!/bin/awk -f\nBEGIN\n"),
			Mounts: []operation.Mount{{Target: "/dev/pipes/", Path: "/E", Script: true}},
		}},
		"the context":            {"RUN --mount=target=in,source=sub true", operation.Exec{Args: sh("true"), Env: env, Dir: "/srv", User: "7:8", Mounts: []operation.Mount{{Target: "/srv/in", From: &operation.Source{}, Path: "/sub"}}}},
		"a stage":                {"RUN --mount=from=other,target=/tools,source=/opt true", operation.Exec{Args: sh("true"), Env: env, Dir: "/srv", User: "7:8", Mounts: []operation.Mount{{Target: "/tools", From: &operation.Source{Stage: "stage-0"}, Path: "/opt"}}}},
		"nothing":                {"RUN --mount=type=tmpfs,target=/t true", operation.Exec{Args: sh("true"), Env: env, Dir: "/srv", User: "7:8", Mounts: []operation.Mount{{Target: "/t", Path: "/"}}}},
		"what is kaniko's":       {"RUN --mount=type=cache,target=/c --mount=type=secret,id=s true", operation.Exec{Args: sh("true"), Env: env, Dir: "/srv", User: "7:8"}},
		"a secret in a variable": {"RUN --mount=type=secret,id=s,env=TOKEN true", operation.Exec{Args: sh("true"), Env: env, Dir: "/srv", User: "7:8", Pass: []string{"TOKEN"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := mustRead(t, "FROM bare AS other\nRUN true\nFROM base\n"+tc.instruction+"\n")
			got, err := d.Exec(Place{Line: 4}, stages)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got, cmpopts.IgnoreUnexported(operation.CopyAction{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A build arg with the name of a proxy is there without an ARG, in either case.
func TestExecWithAProxy(t *testing.T) {
	t.Parallel()
	d, err := read(t, "FROM base\nARG V=1\nENV W=2\nRUN true\n", func(o *Options) { o.BuildArgs = map[string]string{"HTTP_PROXY": "http://proxy.example", "V": "3"} })
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Exec(Place{Line: 4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PATH=/bin", "LANG=C", "V=3", "W=2", "HTTP_PROXY=http://proxy.example", "http_proxy=http://proxy.example"}
	if diff := cmp.Diff(want, got.Env); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
