package dockerfile

import (
	"context"
	"testing"
)

func TestReaches(t *testing.T) {
	t.Parallel()
	const goRoot = "/usr/local/go"
	final := "\nFROM scratch\nCOPY --from=build /app /app\n"
	for name, tc := range map[string]struct {
		source string
		want   string // "" for nothing
	}{
		"build":                     {"FROM golang AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o /app" + final, ""},
		"in the base's folder":      {"FROM golang AS build\nCOPY . .\nRUN go build -o /app" + final, ""},
		"its programs":              {"FROM golang AS build\nRUN /usr/local/go/bin/go build -o /app" + final, ""},
		"PATH":                      {"FROM golang AS build\nENV PATH=$PATH:/usr/local/go/bin\nRUN PATH=/usr/local/go/bin:$PATH go build" + final, ""},
		"a neighbour":               {"FROM golang AS build\nRUN ls /usr/local/golang /usr/local/bin /usr/lib/go && go build -o /usr/local/bin/app" + final, ""},
		"a relative path":           {"FROM golang AS build\nRUN ls usr/local/go ./usr/local/go" + final, ""},
		"another stage's":           {"FROM golang AS build\nRUN go build\nFROM golang AS other\nRUN ls /usr/local/go\nFROM scratch\nCOPY --from=build /app /app", ""},
		"to the root":               {"FROM golang AS build\nRUN go build" + final + "COPY --from=build /app /\n", ""},
		"GOROOT as it is":           {"FROM golang AS build\nENV GOROOT=/usr/local/go\nRUN go build" + final, ""},
		"reads":                     {"FROM golang AS build\nRUN cp /usr/local/go/lib/wasm/wasm_exec.js ." + final, "2: RUN names /usr/local/go/lib/wasm/wasm_exec.js"},
		"after a program":           {"FROM golang AS build\nRUN /usr/local/go/bin/go env;/usr/local/go/x" + final, "2: RUN names /usr/local/go/x"},
		"installs another Go":       {"FROM golang AS build\nRUN tar -C /usr/local -xzf go.tgz" + final, "2: RUN names /usr/local"},
		"removes by pattern":        {"FROM golang AS build\nRUN rm -rf /usr/local/*" + final, "2: RUN names /usr/local/*"},
		"a pattern elsewhere":       {"FROM golang AS build\nRUN rm -rf /usr/share/*" + final, ""},
		"a heredoc":                 {"FROM golang AS build\nRUN <<E\nls /usr/local/go\nE" + final, "2: RUN names /usr/local/go"},
		"GOROOT":                    {"FROM golang AS build\nRUN cp -r $(go env GOROOT) /out" + final, "2: RUN names GOROOT"},
		"GOROOT among others":       {"FROM golang AS build\nENV GOROOT=/usr/local/go PATH=/usr/local/go/bin:$PATH\nRUN go build" + final, ""},
		"by way of a build arg":     {"FROM golang AS build\nARG GIVEN\nRUN ls $GIVEN" + final, "2: ARG names /usr/local/go"},
		"its own GOROOT":            {"FROM golang AS build\nENV GOROOT=/opt/go\nRUN go build" + final, "2: ENV sets GOROOT"},
		"a tool of Go":              {"FROM golang AS build\nRUN go install -v cmd/vet" + final, "2: RUN installs parts of Go itself"},
		"by way of ENV":             {"FROM golang AS build\nENV X=/usr/local/go/src\nRUN ls $X" + final, "2: ENV names /usr/local/go/src"},
		"copies to it":              {"FROM golang AS build\nCOPY patch /usr/local/go/src/" + final, "2: COPY copies to /usr/local/go/src"},
		"copies to its parent":      {"FROM golang AS build\nCOPY go /usr/local/" + final, "2: COPY copies to /usr/local"},
		"copies from it":            {"FROM golang AS build\nFROM scratch\nCOPY --from=build /usr/local/go/lib/time/zoneinfo.zip /", "3: COPY copies from /usr/local/go"},
		"copies it with all else":   {"FROM golang AS build\nFROM scratch\nCOPY --from=build / /", "3: COPY copies from /usr/local/go"},
		"copies from an image's":    {"FROM alpine\nCOPY --from=golang /usr/local/go/ /usr/local/go/", "2: COPY copies from /usr/local/go"},
		"its place in a last stage": {"FROM golang AS build\nFROM alpine\nWORKDIR /usr/local\nCOPY --from=build /app app", "3: WORKDIR makes /usr/local"},
		"its programs in the image": {"FROM golang\nRUN rm /usr/local/go/bin/gofmt", "2: RUN names /usr/local/go/bin/gofmt"},
		"brings files to it":        {"FROM golang AS build\nCOPY rootfs /" + final, "2: COPY copies to /"},
		"brings none":               {"FROM golang AS build\nCOPY other /" + final, ""},
		"PATH of the image":         {"FROM golang\nENV PATH=/usr/local/go/bin:$PATH\nRUN go build", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _, err := derive(t.Context(), []byte(tc.source), Options{
				Platform: "linux/amd64", Mounted: mounted, BuildArgs: map[string]string{"GIVEN": goRoot},
				Has: func(path string) bool { return path == "rootfs/usr/local/go" },
			})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if note := d.Reaches(goRoot); note != nil {
				got = note.String()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestOtherUser(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		source, user string // user is the base image's
		want         int
	}{
		"root":                  {"FROM golang\nRUN go build", "", 0},
		"root by name":          {"FROM golang\nUSER root:root\nRUN go build\nUSER 0\nRUN go build", "root", 0},
		"USER":                  {"FROM golang\nRUN true\nUSER nobody\nRUN go build", "", 3},
		"USER by variable":      {"FROM golang\nARG UID=7\nUSER $UID\nRUN go build", "", 3},
		"USER of the image":     {"FROM golang\nRUN go build\nUSER nobody\nCMD [\"app\"]", "", 0},
		"the base's":            {"FROM golang\nCOPY . .\nRUN go build", "1001", 1},
		"the base's, not run":   {"FROM golang\nUSER root\nRUN go build", "1001", 0},
		"the base's base's":     {"FROM golang AS base\nFROM base\nRUN go build", "1001:0", 1},
		"of the stage above":    {"FROM golang AS base\nUSER nobody\nFROM base\nRUN go build", "", 2},
		"back to root":          {"FROM golang AS base\nUSER nobody\nFROM base\nUSER root\nRUN go build", "", 0},
		"of a stage not needed": {"FROM golang AS other\nUSER nobody\nRUN true\nFROM golang\nRUN go build", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _, err := derive(t.Context(), []byte(tc.source), Options{
				Platform: "linux/amd64", Mounted: mounted,
				Config: func(context.Context, string) (*ImageConfig, error) { return &ImageConfig{User: tc.user}, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := d.OtherUser(); got != tc.want {
				t.Errorf("line %d, want %d", got, tc.want)
			}
		})
	}
}

func TestCopiesTo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		instruction, ignored string
		want                 string // "" for nothing
	}{
		"a file in it":        {"COPY env /root/.config/go/env", "/root/.config/go", "2: COPY copies to /root/.config/go/env"},
		"to it":               {"ADD config /root/.config/go", "/root/.config/go", "2: ADD copies to /root/.config/go"},
		"by pattern":          {"COPY env /home/me/.config/go/", "/home/*/.config/go", "2: COPY copies to /home/me/.config/go"},
		"with a folder":       {"COPY rootfs /", "/var/cache", "2: COPY copies to /"},
		"with another":        {"COPY other /", "/var/cache", ""},
		"beside it":           {"COPY env /root/.config/gopls/env", "/root/.config/go", ""},
		"above it":            {"COPY env /root/.config/", "/root/.config/go", ""},
		"a folder to work in": {"WORKDIR /root/.config/go", "/root/.config/go", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _, err := derive(t.Context(), []byte("FROM alpine\n"+tc.instruction+"\n"), Options{
				Platform: "linux/amd64", Has: func(path string) bool { return path == "rootfs/var/cache" },
			})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if note := d.CopiesTo(tc.ignored); note != nil {
				got = note.String()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
