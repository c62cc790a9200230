package dockerfile_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/dockerfile"
)

// derived derives with a stand-in for the registry.
func derived(t *testing.T, text, target string, args map[string]string) *dockerfile.Derived {
	t.Helper()
	file, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d, err := file.Derive(t.Context(), dockerfile.Options{
		Target: target, BuildArgs: args, Platform: "linux/amd64", Mounted: []string{"/workspace"},
		Pin:    func(_ context.Context, image, _ string) (string, error) { return image + "@sha256:0", nil },
		Config: func(context.Context, string) (*dockerfile.ImageConfig, error) { return &dockerfile.ImageConfig{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A change in a stage that the target does without changes nothing; one
// anywhere else does.
func TestNeeded(t *testing.T) {
	t.Parallel()
	const text = `# syntax=docker/dockerfile:1
ARG VERSION=1
FROM golang AS tools
RUN tools
FROM golang:${VERSION} AS build
WORKDIR /workspace
COPY . .
RUN <<END
build
END
# a comment
FROM alpine AS debug
COPY --from=busybox /bin/busybox /bin/
FROM scratch AS lint
RUN lint
FROM alpine
COPY --from=1 /bin/app /bin/
`
	source, built := derived(t, text, "", nil).Needed()
	wantSource := `# syntax=docker/dockerfile:1
ARG VERSION=1
FROM scratch
FROM golang:${VERSION} AS build
WORKDIR /workspace
COPY . .
RUN <<END
build
END
# a comment
FROM scratch
FROM scratch
FROM alpine
COPY --from=1 /bin/app /bin/
`
	wantBuilt := strings.NewReplacer("golang:${VERSION}", "golang:1@sha256:0", "/workspace", "/slipway-workspace", "FROM alpine", "FROM alpine@sha256:0").Replace(wantSource)
	if diff := cmp.Diff(wantSource, string(source)); diff != "" {
		t.Errorf("the source: want (-), got (+):\n%s", diff)
	}
	if diff := cmp.Diff(wantBuilt, string(built)); diff != "" {
		t.Errorf("as built: want (-), got (+):\n%s", diff)
	}

	for name, tc := range map[string]struct {
		from, to string
		counts   bool
	}{
		"a stage that is not needed": {"RUN lint", "RUN lint --strict", false},
		"its base":                   {"FROM golang AS tools", "FROM golang:2 AS tools", false},
		"what it copies":             {"/bin/busybox /bin/", "/bin/busybox /usr/bin/", false},
		"a stage that is needed":     {"\nbuild\n", "\nbuild all\n", true},
		"the target":                 {"/bin/app /bin/", "/bin/app /usr/bin/", true},
		"a global":                   {"VERSION=1", "VERSION=2", true},
		"another stage by number":    {"--from=1", "--from=0", true},
		"a stage more":               {"FROM scratch AS lint", "FROM scratch\nFROM scratch AS lint", true}, // it might be meant by a number
	} {
		if strings.Count(text, tc.from) != 1 {
			t.Fatalf("%s: %q is not there once", name, tc.from)
		}
		_, other := derived(t, strings.Replace(text, tc.from, tc.to, 1), "", nil).Needed()
		if counts := string(other) != string(built); counts != tc.counts {
			t.Errorf("%s counts: %t, want %t\n%s", name, counts, tc.counts, other)
		}
	}
	// An added stage stands before the one that copies from it.
	if _, debug := derived(t, text, "debug", nil).Needed(); !strings.Contains(string(debug), "FROM scratch\nFROM scratch\nFROM busybox@sha256:0 AS slipway-from-0\nFROM alpine@sha256:0 AS debug\nCOPY --from=slipway-from-0") {
		t.Errorf("as built for debug:\n%s", debug)
	}
}

func TestContextPaths(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"COPY . .":                                       {"."},
		"COPY go.mod go.sum ./":                          {"go.mod", "go.sum"},
		"COPY /cmd ./internal/ /src/":                    {"cmd", "internal"},
		"COPY *.go cmd/*/main.go /src/":                  {"*.go", "cmd/*/main.go"},
		`COPY ["a b", "/src/"]`:                          {"a b"},
		"ADD app.tar https://example.com/x /":            {"app.tar"},
		"ARG DIR=cmd\nCOPY ${DIR}/x /src/":               {"cmd/x"},
		"ARG DIR\nCOPY $DIR /src/":                       {"."},
		"COPY a\\*b /src/":                               {"."},
		"COPY <<FILE /etc/x\ncontent\nFILE":              nil,
		"COPY --from=other /x /x":                        nil,
		"RUN --mount=type=bind,target=/src make":         {"."},
		"RUN --mount=type=bind,source=.,target=/src ls":  {"."},
		"RUN --mount=source=go.sum,target=go.sum ls":     {"go.sum"},
		"RUN --mount=type=cache,target=/x ls":            nil,
		"RUN --mount=type=bind,source=$X,target=/src ls": {"."},
		"RUN ls":               nil,
		"COPY b /\nCOPY a b /": {"a", "b"},
	} {
		got := derived(t, "FROM scratch AS other\nCOPY unneeded /x\nFROM scratch AS more\nCOPY x /\nFROM alpine\n"+text+"\n", "", nil).ContextPaths()
		if strings.Contains(text, "--from=other") {
			want = []string{"unneeded"}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", text, diff)
		}
	}
}

func TestTakes(t *testing.T) {
	t.Parallel()
	args := map[string]string{}
	d := derived(t, "ARG GLOBAL\nFROM alpine AS other\nARG ELSEWHERE\nFROM alpine\nARG OWN=1 TWO\n", "", args)
	for arg, want := range map[string]bool{
		"GLOBAL": true, "OWN": true, "TWO": true, "TARGETARCH": true, "HTTP_PROXY": true, "https_proxy": true,
		"ELSEWHERE": false, "NONE": false, "own": false, "": false,
	} {
		if got := d.Takes(arg); got != want {
			t.Errorf("%s has an effect: %t, want %t", arg, got, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"RUN apk add --no-cache git":                                      "RUN apk add",
		"RUN apk --no-cache add git":                                      "RUN apk add",
		"RUN apk info":                                                    "",
		"RUN apt-get update && apt-get install -y gcc":                    "RUN apt-get update, RUN apt-get install",
		"RUN set -eux; if true; then curl -L x | tar xz; fi":              "RUN curl",
		"RUN echo wget":                                                   "",
		"RUN CGO_ENABLED=0 /usr/bin/wget x":                               "RUN wget",
		"RUN env A=1 git clone x":                                         "RUN git clone",
		"RUN git describe":                                                "",
		"RUN [\"/bin/sh\", \"-ec\", \"curl x\"]":                          "RUN curl",
		"RUN bash -c 'npm ci'":                                            "RUN npm ci",
		"RUN <<END\nset -e\npip install x\nEND":                           "RUN pip install",
		"RUN go build ./... && go mod download":                           "",
		"RUN go install example.com/x@latest":                             "RUN go install example.com/x@latest",
		"RUN go install example.com/x/...@main":                           "RUN go install example.com/x/...@main",
		"RUN go install example.com/x@v1.2":                               "RUN go install example.com/x@v1.2",
		"RUN go install example.com/x@v1.2.3":                             "",
		"RUN go install example.com/x@v0.0.0-20240102030405-abcdefabcdef": "",
		"RUN go run example.com/x@v1.2.3 a@b":                             "",
		"RUN go install ./cmd/...":                                        "",
		"RUN go get example.com/x":                                        "RUN go get",
		"ADD https://example.com/x /":                                     "ADD https://example.com/x",
		"ADD x /":                                                         "",
		"COPY x /":                                                        "",
	} {
		var got []string
		for _, note := range derived(t, "FROM alpine AS unneeded\nRUN curl x\nFROM alpine\n"+text+"\n", "", nil).Network() {
			if note.Line != 4 {
				t.Errorf("%s: line %d", text, note.Line)
			}
			got = append(got, note.Text)
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestModuleDownloads(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"RUN go mod download": "RUN go mod download",
		"RUN --mount=type=secret,id=netrc go mod download -x":         "RUN go mod download",
		"RUN GOFLAGS=-mod=mod /usr/local/go/bin/go mod tidy":          "RUN go mod tidy",
		"RUN set -e; cd sub && go -C api mod download all":            "RUN go mod download",
		"RUN go -C=api mod download":                                  "RUN go mod download",
		"RUN [\"go\", \"get\", \"-t\", \"./...\"]":                    "RUN go get",
		"RUN <<END\nset -e\ngo work sync\nEND":                        "RUN go work sync",
		"RUN apk add git && go install example.com/x@v1.2.3":          "RUN go install",
		"RUN go mod download && go get x":                             "RUN go mod download, RUN go get",
		"RUN go build ./... && go test ./... && go mod edit -go=1.26": "",
		"RUN echo go mod download":                                    "",
		"RUN go":                                                      "",
		"RUN go mod":                                                  "",
		"COPY x /":                                                    "",
	} {
		var got []string
		for _, note := range derived(t, "FROM alpine AS unneeded\nRUN go mod download\nFROM alpine\n"+text+"\n", "", nil).ModuleDownloads() {
			if note.Line != 4 {
				t.Errorf("%s: line %d", text, note.Line)
			}
			got = append(got, note.Text)
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
