package dockerfile

import "testing"

func TestModules(t *testing.T) {
	t.Parallel()
	build := "FROM golang AS build\nRUN go build -o /app\n"
	for name, tc := range map[string]struct {
		source string
		want   string // "" for nothing
	}{
		"build":                     {build + "FROM scratch\nCOPY --from=build /app /app", ""},
		"modules first":             {"FROM golang AS build\nRUN go mod download\nRUN go build -o /app\nFROM scratch\nCOPY --from=build /app /app", ""},
		"a program of GOPATH":       {build + "FROM alpine\nCOPY --from=build /go/bin/dlv /", ""},
		"a mount":                   {"FROM golang\nRUN --mount=type=cache,target=/go/pkg/mod go build", ""},
		"removes the cache":         {"FROM golang\nRUN go build -o /app && rm -rf /go/pkg /go/pkg/mod", ""},
		"copies it":                 {build + "FROM golang\nCOPY --from=build /go/pkg/mod /go/pkg/mod\nRUN go build", "4: COPY copies from the module cache"},
		"copies what is above":      {build + "FROM golang\nCOPY --from=build /go /go", "4: COPY copies from the module cache"},
		"copies everything":         {build + "FROM scratch\nCOPY --from=build / /", "4: COPY copies from the module cache"},
		"copies a module":           {build + "FROM scratch\nCOPY --from=build /go/pkg/mod/corp.example/a@v1.0.0/assets /assets", "4: COPY copies from the module cache"},
		"copies by pattern":         {build + "FROM scratch\nCOPY --from=build /go/pkg/*/corp.example /assets", "4: COPY copies from the module cache"},
		"copies it by variable":     {build + "FROM golang\nCOPY --from=build $GOPATH/pkg/mod /modules", "4: COPY names the module cache"},
		"copies another GOPATH's":   {build + "FROM golang\nCOPY --from=build /root/go/pkg/mod /root/go/pkg/mod", "4: COPY copies from the module cache"},
		"tools over all":            {"FROM tonistiigi/xx AS xx\nFROM golang\nCOPY --from=xx / /\nRUN go build", ""},
		"tools elsewhere":           {"FROM tonistiigi/xx AS xx\nFROM golang\nCOPY --from=xx / /xx\nRUN go build", "3: COPY copies from the module cache"},
		"copies to it":              {"FROM golang\nCOPY modules/ /go/pkg/mod/\nRUN go build", "2: COPY copies to /go/pkg/mod"},
		"brings files to it":        {"FROM golang\nCOPY go/ /go/\nRUN go build", "2: COPY copies to /go"},
		"files mounted in it":       {"FROM golang\nRUN --mount=type=bind,source=modules,target=/go/pkg/mod go build", "2: RUN mounts files at /go/pkg/mod"},
		"works in it":               {"FROM golang\nWORKDIR /go/pkg/mod/corp.example\nRUN ls", "2: WORKDIR makes /go/pkg/mod/corp.example"},
		"empties it":                {"FROM golang\nRUN go build -o /app && rm -rf /go/pkg/mod/cache", "2: RUN removes files of the module cache"},
		"in the image":              {"FROM golang\nRUN go mod download\nCOPY . .", "2: RUN go mod download is in the final stage"},
		"in the image's base":       {"FROM golang AS dev\nRUN go mod download\nFROM dev\nCOPY . .", "2: RUN go mod download is in the final stage"},
		"the image runs go":         {"FROM golang\nCOPY . .\nCMD [\"go\", \"test\", \"./...\"]", "3: CMD runs go, in the image"},
		"the image's shell runs go": {"FROM golang\nCOPY . .\nENTRYPOINT cd /src && exec go run .", "3: ENTRYPOINT runs go, in the image"},
		"a build stage runs go":     {"FROM golang AS build\nCMD go test\nFROM scratch\nCOPY --from=build /app /", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _, err := derive(t.Context(), []byte(tc.source), Options{
				Platform: "linux/amd64", Mounted: mounted, ModCache: "/go/pkg/mod",
				Has: func(path string) bool { return path == "go/pkg/mod" },
			})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if d.Modules != nil {
				got = d.Modules.String()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
