package dockerfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/slipway-ci/slipway/internal/frontend"
	"github.com/slipway-ci/slipway/internal/operation"
)

// TestConvert derives and converts each Dockerfile of testdata/convert. Its
// .golden has kaniko's Dockerfile, the operations and what is a RUN to kaniko, or
// the error. It is converted with the operations of one layer together, unless
// the file's first line is "# apart".
func TestConvert(t *testing.T) {
	t.Parallel()
	sources, err := filepath.Glob("testdata/convert/*.Dockerfile")
	if err != nil || len(sources) == 0 {
		t.Fatalf("%d cases, %v", len(sources), err)
	}
	for _, name := range sources {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".Dockerfile"), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			o := ConvertOptions{Together: !strings.HasPrefix(string(source), "# apart")}
			var got string
			converted, config, err := convert(t.Context(), source, Options{}, o)
			if err != nil {
				got = "error: " + err.Error() + "\n"
			} else {
				got = shownConverted(t, converted, config)
			}
			compare(t, strings.TrimSuffix(name, ".Dockerfile")+".golden", got)
		})
	}
}

// bases are the images that the cases are FROM; any other has no configuration.
var bases = map[string]ocispecs.ImageConfig{
	"golang":          {Env: []string{"PATH=/usr/local/go/bin:/usr/bin:/bin", "GOPATH=/go"}, WorkingDir: "/go", Cmd: []string{"bash"}},
	"example/nonroot": {User: "65532:65532", Env: []string{"PATH=/usr/bin:/bin"}},
	"example/onbuild": {Env: []string{"PATH=/bin"}},
}

// convert derives a Dockerfile with images pinned by name alone, has BuildKit's
// front end read it, and converts it.
func convert(ctx context.Context, source []byte, o Options, c ConvertOptions) (*Converted, json.RawMessage, error) {
	o.Platform, o.Mounted = "linux/amd64", mounted
	o.Config = func(_ context.Context, ref string) (*ImageConfig, error) {
		base, ok := bases[ref]
		if !ok {
			return &ImageConfig{}, nil
		}
		return &ImageConfig{Env: base.Env, WorkingDir: base.WorkingDir, User: base.User}, nil
	}
	o.Pin = keep
	f, err := Parse("Dockerfile", source)
	if err != nil {
		return nil, nil, err
	}
	derived, err := f.Derive(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	means, err := frontend.Read(ctx, derived.Content, frontend.Options{
		Target: derived.Target, BuildArgs: o.BuildArgs, Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		Config: func(_ context.Context, ref string) ([]byte, error) {
			return json.Marshal(ocispecs.Image{
				Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}, Config: bases[familiar(ref)],
				RootFS: ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(ref)}}, // without, it is scratch
			})
		},
	})
	if at := new(frontend.Error); errors.As(err, &at) {
		return nil, nil, derived.ErrorAt(at.Line, at.Error())
	}
	if err != nil {
		return nil, nil, err
	}
	c.Command, c.World = []string{"/run"}, operation.World{Kept: "/kept"}
	converted, err := derived.Convert(ctx, means, c)
	return converted, means.Config, err
}

// familiar is a reference as the cases have it, of the one that BuildKit asks for.
func familiar(ref string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/"), ":latest")
}

func shownConverted(t *testing.T, c *Converted, config json.RawMessage) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(string(c.Content), "\r", "\\r"))
	b.WriteString("\n--- operations\n")
	for i, o := range c.Operations {
		content, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %s\n", i, content)
	}
	fmt.Fprintf(&b, "--- targets\n%s\n--- runs\n", strings.Join(c.Targets, " "))
	for _, run := range c.Runs {
		fmt.Fprintf(&b, "%d copies=%t keeps=%t %q as %q", run.Line, run.Copies, run.Keeps, run.Text, run.As)
		for _, o := range run.Operations {
			fmt.Fprintf(&b, "\n    %s", o)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "--- configuration\n%s\n", config)
	return b.String()
}

// What kaniko is given can be read, has each operation once and in the order in
// which it has to be carried out, and no instruction that kaniko does otherwise.
func TestConvertedIsWhatKanikoDoesRight(t *testing.T) {
	t.Parallel()
	sources, err := filepath.Glob("testdata/convert/*.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	wild, err := filepath.Glob("../../test/e2e/testdata/wild/*/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(sources, wild...) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, together := range []bool{true, false} {
				converted, _, err := convert(t.Context(), source, Options{}, ConvertOptions{Together: together})
				if finding := (*Error)(nil); errors.As(err, &finding) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				checkConverted(t, converted, together)
			}
		})
	}
}

func checkConverted(t *testing.T, converted *Converted, together bool) {
	t.Helper()
	file, err := Parse("Dockerfile", converted.Content)
	if err != nil {
		t.Fatalf("%v\n%s", err, converted.Content)
	}
	g, err := file.newGraph(Options{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	var runs []string
	clearing, cleared := 0, false
	for _, s := range g.nodes {
		clears := slices.Contains(converted.Targets[1:], s.Name)
		if clears {
			clearing++
		} else if s.matters && !cleared {
			t.Errorf("nothing is cleared before stage %d", s.index)
		}
		cleared = clears || cleared && !s.matters
		if !s.matters && !clears {
			continue // it is left as it is
		}
		for _, i := range s.body {
			text := i.raw(i.rest)
			switch i.keyword() {
			case "RUN":
				runs = append(runs, text)
				var words []string
				if !strings.HasPrefix(text, `["/run"`) {
					if len(i.heredocs) > 0 {
						t.Errorf("kaniko is to carry out a here-document: %s", i.text)
					}
					continue
				}
				if err := json.Unmarshal([]byte(text), &words); err != nil {
					t.Fatal(err)
				}
				if !together && len(words) > 2 && !slices.ContainsFunc(converted.Runs, func(r Run) bool { return r.As == text && r.Copies }) {
					t.Errorf("a command is together with others: %s", text)
				}
				for _, index := range words[1:] {
					if index == operation.ClearSign {
						cleared = true
						continue
					}
					if strings.HasPrefix(index, operation.DigestSign) {
						continue
					}
					if cleared {
						t.Errorf("stage %d is cleared before %s", s.index, text)
					}
					if called[index] {
						t.Errorf("operation %s is called twice", index)
					}
					called[index] = true
				}
			case "COPY":
				if !strings.HasPrefix(text, "/kept/") {
					t.Errorf("kaniko is to copy: %s", i.text)
				}
			case "WORKDIR", "ENV", "ARG", "SHELL", "USER":
			default:
				t.Errorf("kaniko is to carry out %s", i.text)
			}
		}
	}
	if clearing != len(converted.Targets)-1 {
		t.Errorf("%d stages of the targets %q clear", clearing, converted.Targets)
	}
	if len(called) > len(converted.Operations) {
		t.Errorf("%d of %d operations are called", len(called), len(converted.Operations))
	}
	for i := range converted.Operations {
		if !called[fmt.Sprint(i)] {
			t.Errorf("operation %d, %s, is never called", i, converted.Operations[i].Instruction)
		}
	}
	for _, run := range converted.Runs {
		at := slices.Index(runs, run.As)
		if at < 0 {
			t.Errorf("%q is not in the file, or not in this order", run.As)
			continue
		}
		runs = runs[at+1:]
	}
}

// TestConvertNamesTheUsersLines: whatever deriving adds or takes away, what is
// said of an instruction has the line that the user sees.
func TestConvertNamesTheUsersLines(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		source string
		bases  map[string]string
		want   []string // of the operations
		err    string
	}{
		"a stage is added": {
			source: "FROM golang AS build\nRUN go version\n\nFROM scratch\nCOPY --from=busybox /bin/sh /sh\nCOPY --from=build /go /go\n",
			want:   []string{"Dockerfile:2: RUN go version", "Dockerfile:1: what later stages copy of build", "Dockerfile:4: what later stages copy of slipway-from-0", "Dockerfile:5: COPY --from=slipway-from-0 /bin/sh /sh", "Dockerfile:6: COPY --from=build /go /go"},
		},
		"a WORKDIR is moved": {
			source: "FROM golang AS build\nWORKDIR /workspace\n# why\nCOPY . .\nRUN go build \\\n  -o /app \\\n  .\nUSER 7\nRUN true\nFROM scratch\nCOPY --from=build \\\n  /app /app\n",
			want: []string{
				"Dockerfile:2: WORKDIR /slipway-workspace", "Dockerfile:4: COPY . .", "Dockerfile:9: RUN true",
				"Dockerfile:1: what later stages copy of build", "Dockerfile:11: COPY --from=build /app /app",
			},
		},
		"of an ONBUILD": {
			source: "FROM golang AS base\nONBUILD COPY a /a\nONBUILD COPY b /b\n\nFROM base\nCOPY c /c\n",
			want:   []string{"Dockerfile:2: COPY a /a", "Dockerfile:3: COPY b /b", "Dockerfile:6: COPY c /c"},
		},
		"CRLF":                   {source: "FROM golang\r\n\r\nCOPY --from=busybox /a /a\r\nCOPY \\\r\n  b /b\r\nCOPY c /c", want: []string{"Dockerfile:1: what later stages copy of slipway-from-0", "Dockerfile:3: COPY --from=slipway-from-0 /a /a", "Dockerfile:4: COPY b /b", "Dockerfile:6: COPY c /c"}},
		"a mark":                 {source: "\xef\xbb\xbfFROM golang\nCOPY a /a\n", want: []string{"Dockerfile:2: COPY a /a"}},
		"a git repository":       {source: "FROM scratch\nCOPY --from=busybox /a /a\n\nADD https://git.example/a.git /src\n", err: "Dockerfile:4: ADD of a git repository; clone it in a RUN of a build stage, RUN git clone --depth 1 --branch TAG URL /src, and COPY --from that stage; or have the files in the build context, as a submodule"},
		"a bad port":             {source: "FROM scratch\nCOPY --from=busybox /a /a\n\n\nEXPOSE 80x\n", err: "Dockerfile:5: invalid"},
		"a variable in a number": {source: "FROM golang\nCOPY --from=busybox /a /a\nCOPY --chmod=9x a /b\n", err: "Dockerfile:3: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			converted, _, err := convert(t.Context(), []byte(tc.source), Options{}, ConvertOptions{Together: true})
			if tc.err != "" {
				if finding := (*Error)(nil); !errors.As(err, &finding) || !strings.HasPrefix(err.Error(), tc.err) {
					t.Fatalf("%T %v, want %s", err, err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, run := range converted.Runs { // as they are carried out
				if !strings.HasPrefix(run.As, `["/run"`) {
					if run.Line == 0 {
						t.Errorf("%+v has no line", run)
					}
					continue
				}
				var words []string
				if err := json.Unmarshal([]byte(run.As), &words); err != nil {
					t.Fatal(err)
				}
				for n, index := range words[1:] {
					if index == operation.ClearSign || strings.HasPrefix(index, operation.DigestSign) {
						continue
					}
					var i int
					if _, err := fmt.Sscan(index, &i); err != nil {
						t.Fatal(err)
					}
					o := converted.Operations[i].Instruction
					if n == 0 && !strings.HasPrefix(o, fmt.Sprintf("Dockerfile:%d: ", run.Line)) {
						t.Errorf("the RUN at line %d carries out %s", run.Line, o)
					}
					got = append(got, o)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, converted.Content)
			}
		})
	}
}

// TestRunsOfTheUser: those that kaniko carries out as they are, with their lines
// in the source, whatever deriving does to the lines.
func TestRunsOfTheUser(t *testing.T) {
	t.Parallel()
	converted, _, err := convert(t.Context(), []byte("FROM busybox AS base\n"+`ONBUILD RUN echo onbuild

FROM busybox AS unneeded
RUN echo unneeded

FROM base AS build
COPY --from=alpine /etc/os-release /
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download && \
    # and then
    go build -o /app .
RUN ["/usr/local/go/bin/go", "version"]
RUN <<EOF
go env
EOF

FROM scratch
COPY --from=build /app /app
`), Options{}, ConvertOptions{Together: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []Run{
		{Line: 9, Text: "go mod download &&     go build -o /app .", As: "go mod download &&     go build -o /app ."},
		{Line: 13, Text: `["/usr/local/go/bin/go", "version"]`, As: `["/usr/local/go/bin/go", "version"]`},
	}
	var got []Run
	onbuild, heredoc := false, false
	for _, run := range converted.Runs {
		if len(run.Operations) == 0 && !run.Keeps {
			got = append(got, run)
		}
		onbuild = onbuild || run.Line == 2 && run.Text == "echo onbuild" && !run.Copies && slices.Equal(run.Operations, []string{"RUN echo onbuild"})
		heredoc = heredoc || run.Line == 14 && run.Text == "<<EOF" && !run.Copies && slices.Equal(run.Operations, []string{"RUN <<EOF"})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !onbuild || !heredoc {
		t.Errorf("the ONBUILD and the here-document are not among %+v", converted.Runs)
	}
}

// With a digest, kaniko's layer cache knows what an operation takes.
func TestConvertWithDigests(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{}
	converted, _, err := convert(t.Context(), []byte("FROM busybox AS build\nWORKDIR /src\nCOPY a b\nRUN <<EOF\ntrue\nEOF\nFROM scratch\nCOPY --from=build /src /src\n"), Options{}, ConvertOptions{Digest: func(o *operation.Operation) (string, error) {
		if o.Keep != nil {
			return "", errors.New("what is kept is not known yet")
		}
		asked[o.Instruction] = true
		return "sum" + fmt.Sprint(len(asked)), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Dockerfile:2: WORKDIR /src", "Dockerfile:3: COPY a b", "Dockerfile:4: RUN <<EOF", "Dockerfile:8: COPY --from=build /src /src"}
	if got := slices.Sorted(maps.Keys(asked)); !slices.Equal(got, want) {
		t.Errorf("digests of %q, want %q", got, want)
	}
	const file = `FROM scratch AS slipway-clear-0
RUN ["/run","clear","@slipway-clear-0"]
FROM busybox AS build
RUN ["/run","1","@sum2"]
WORKDIR /src
RUN ["/run","2","@sum3"]
RUN ["/run","3","@sum4"]
RUN ["/run","4","clear"]
FROM scratch AS slipway-stage-1
COPY --from=build /kept/stage-0.digest /kept/stage-0.digest
RUN ["/run","0","@sum1"]
`
	if diff := cmp.Diff(file, string(converted.Content)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if k := converted.Operations[4].Keep; k == nil || !k.Digest || k.Stage != "stage-0" {
		t.Errorf("what is kept: %+v", k)
	}

	refused := errors.New("no such file")
	if _, _, err := convert(t.Context(), []byte("FROM scratch\nCOPY a b\n"), Options{}, ConvertOptions{Digest: func(*operation.Operation) (string, error) { return "", refused }}); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// The cases that follow are of the target alone.
func TestConvertATarget(t *testing.T) {
	t.Parallel()
	source := []byte("FROM busybox AS one\nCOPY a /a\nFROM busybox AS two\nCOPY --from=one /a /b\nFROM busybox AS three\nCOPY --from=two /b /c\nVOLUME /c\n")
	for target, want := range map[string][]string{
		"one": {"Dockerfile:2: COPY a /a"},
		"two": {"Dockerfile:1: what later stages copy of one", "Dockerfile:2: COPY a /a", "Dockerfile:4: COPY --from=one /a /b"},
		"":    {"Dockerfile:1: what later stages copy of one", "Dockerfile:2: COPY a /a", "Dockerfile:3: what later stages copy of two", "Dockerfile:4: COPY --from=one /a /b", "Dockerfile:6: COPY --from=two /b /c"},
	} {
		converted, _, err := convert(t.Context(), source, Options{Target: target}, ConvertOptions{Together: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range converted.Operations {
			got = append(got, o.Instruction)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("target %q (-want +got):\n%s", target, diff)
		}
	}
}

// Each golden file has its case.
func TestGoldenFilesHaveTheirCases(t *testing.T) {
	t.Parallel()
	goldens, err := filepath.Glob("testdata/convert/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, golden := range goldens {
		if _, err := os.Stat(strings.TrimSuffix(golden, ".golden") + ".Dockerfile"); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is of no case", golden)
		}
	}
}
