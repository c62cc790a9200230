package prepare_test

import (
	"bytes"
	"io"
	stdlog "log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/inputs"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/prepare"
	own "github.com/slipway-ci/slipway/internal/registry"
)

// declared is one build with all that may decide its image.
type declared struct {
	root   string
	host   string // of the registry
	env    map[string]string
	arrays map[string][]string
	this   prepare.Host
}

// newDeclared is a build whose registry answers as before says first, "nil" for
// as it is.
func newDeclared(t *testing.T, before func(http.ResponseWriter, *http.Request) (done bool)) *declared {
	t.Helper()
	handler := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before == nil || !before(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	b := &declared{root: t.TempDir(), host: strings.TrimPrefix(server.URL, "http://")}
	for file, content := range map[string]string{
		"source/Dockerfile": "ARG BASE=golang\nFROM other AS unneeded\nRUN unneeded\nFROM ${BASE} AS build\n" +
			"ARG VERSION\nCOPY cmd /src/cmd\nCOPY go.* /src/\nRUN go build\nFROM golang\nCOPY --from=build /bin/x /bin/x\n",
		"source/.dockerignore":   "cmd/left-out\n",
		"source/README.md":       "read me",
		"source/go.mod":          "module x",
		"source/go.sum":          "",
		"source/cmd/x/main.go":   "package main",
		"source/cmd/left-out/x":  "",
		"source/other/go.mod":    "module x",
		"secrets/token":          "1234",
		"secrets/not-mounted":    "1234",
		"program":                "this program",
		"cache/go-build/nothing": "",
	} {
		b.write(t, file, content)
	}
	b.put(t, "library/golang", 1)
	b.put(t, "library/other", 2)
	b.this = prepare.Host{Executable: b.path("program"), Platform: "linux/amd64", Started: time.Now()}
	b.env = map[string]string{
		"WORKSPACE_SOURCE_PATH": b.path("source"), "WORKSPACE_CACHE_PATH": b.path("cache"), "WORKSPACE_SECRETS_PATH": b.path("secrets"),
		"PREPARED_PATH": b.path("prepared"), "BUILT_PATH": b.path("built"), "SECRETS_PATH": b.path("secrets-for-run"), "LOGINS_PATH": b.path("logins"),
		"PARAM_IMAGE": b.host + "/team/app:v1", "PARAM_CONTEXT": ".", "PARAM_DOCKERFILE": "Dockerfile", "PARAM_TOOLCHAIN_CACHE": "false",
		"PARAM_PUSH": "true", "PARAM_PUSH_RETRY": "1", "PARAM_SKIP_UNCHANGED": "true", "PARAM_KANIKO_IMAGE": "kaniko:v1", "PARAM_SKIP_DEFAULT_REGISTRY_FALLBACK": "true",
		"PARAM_REPRODUCIBLE": "true", "PARAM_SINGLE_SNAPSHOT": "true", "PARAM_SKIP_UNUSED_STAGES": "true", "PARAM_USE_NEW_RUN": "false",
		"PARAM_IGNORE_VAR_RUN": "true", "PARAM_SNAPSHOT_MODE": "full", "PARAM_COMPRESSION_LEVEL": "1", "PARAM_KANIKO_VERBOSITY": "info",
		"PARAM_IMAGE_DOWNLOAD_RETRY": "0", "PARAM_IMAGE_FS_EXTRACT_RETRY": "0", "PARAM_LOG_TIMESTAMP": "false", "PARAM_FORCE": "false",
		"PARAM_LAYER_CACHE_TTL": "336h", "PARAM_CACHE_RUN_LAYERS": "true", "PARAM_CACHE_COPY_LAYERS": "false",
	}
	b.arrays = map[string][]string{
		"--build-args": {"VERSION=1"}, "--kaniko-args": nil, "--registry-mirrors": {b.host}, "--registry-maps": nil,
		"--insecure-registries": nil, "--skip-tls-verify-registries": nil,
		"--labels": nil, "--kaniko-env": nil, "--ignore-paths": nil, "--registry-certificates": nil, "--registry-client-certs": nil,
		"--tags": nil, "--template-values": nil, "--destinations": nil, "--immutable-tags": nil,
	}
	return b
}

func (b *declared) path(name string) string { return filepath.Join(b.root, name) }

func (b *declared) write(t *testing.T, file, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(b.path(file)), 0o755))
	must(t, os.WriteFile(b.path(file), []byte(content), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put stores an image under a tag, another for each seed, and returns its digest.
func (b *declared) put(t *testing.T, tag string, seed int64) (digest string) {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Author: string(rune('a' + seed)), RootFS: v1.RootFS{Type: "layers"}})
	must(t, err)
	ref, err := name.NewTag(b.host + "/" + tag)
	must(t, err)
	must(t, remote.Write(ref, img))
	hash, err := img.Digest()
	must(t, err)
	return hash.String()
}

// prepare prepares the build, in emptied folders as each pod has them.
func (b *declared) prepare(t *testing.T) (p *plan.Plan, log string) {
	t.Helper()
	log, err := b.run(t)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	p, err = plan.Read(b.path("prepared"))
	must(t, err)
	return p, log
}

func (b *declared) run(t *testing.T) (log string, err error) {
	t.Helper()
	for _, dir := range []string{"prepared", "built", "secrets-for-run", "logins"} {
		must(t, os.RemoveAll(b.path(dir)))
		must(t, os.Mkdir(b.path(dir), 0o755))
	}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(b.arrays)) {
		args = append(append(args, name), b.arrays[name]...)
	}
	var stderr bytes.Buffer
	err = prepare.Run(t.Context(), b.this, args, envconfig.MapLookuper(b.env), &stderr)
	return stderr.String(), err
}

// inputs is the digest of the build's inputs.
func (b *declared) inputs(t *testing.T) string {
	t.Helper()
	p, log := b.prepare(t)
	if p.Record == nil {
		t.Fatal(log)
	}
	record, err := inputs.Take(p.Record.File)
	must(t, err)
	return record.Inputs
}

// params are another value for each param and workspace, and whether it decides
// the image. Without a value it is looked at elsewhere.
var params = map[string]struct {
	value   string
	decides bool
}{
	"PARAM_ARTIFACT":                       {"context=other", true},
	"PARAM_CONTEXT":                        {"other", true},
	"PARAM_DOCKERFILE":                     {"other.Dockerfile", true},
	"PARAM_TARGET":                         {"build", true},
	"PARAM_GO_FLAGS":                       {"-mod=mod", true},
	"PARAM_IMAGE":                          {"HOST/team/other", true}, // a record is of one repository
	"PARAM_REPRODUCIBLE":                   {"false", true},
	"PARAM_SINGLE_SNAPSHOT":                {"false", true},
	"PARAM_USE_NEW_RUN":                    {"true", true},
	"PARAM_IGNORE_VAR_RUN":                 {"false", true},
	"PARAM_SNAPSHOT_MODE":                  {"redo", true},
	"PARAM_COMPRESSION_LEVEL":              {"9", true},
	"PARAM_KANIKO_IMAGE":                   {"kaniko:v2", true},
	"PARAM_GO_PROXY":                       {"https://proxy.example", false},
	"PARAM_GO_NO_SUM_DB":                   {"corp.example", false},
	"PARAM_GO_PRIVATE":                     {"corp.example", false},
	"PARAM_GO_PRIVATE_PROXY":               {"https://proxy.example", false},
	"PARAM_TOOLCHAIN_CACHE":                {"true", false},
	"PARAM_CACHE_SIZE":                     {"1Gi", false},
	"PARAM_UNCHANGED_TTL":                  {"1h", false},
	"PARAM_UNCHANGED_REPOSITORY":           {"HOST/records", false},
	"PARAM_SKIP_DEFAULT_REGISTRY_FALLBACK": {"false", false},
	"PARAM_KANIKO_VERBOSITY":               {"debug", false},
	"PARAM_IMAGE_DOWNLOAD_RETRY":           {"2", false},
	"PARAM_IMAGE_FS_EXTRACT_RETRY":         {"2", false},
	"PARAM_LOG_TIMESTAMP":                  {"true", false},
	"PARAM_FORCE":                          {"true", false},
	"PARAM_LAYER_CACHE_REPO":               {},
	"PARAM_LAYER_CACHE_TTL":                {"1h", false},
	"PARAM_CACHE_RUN_LAYERS":               {"false", false},
	"PARAM_CACHE_COPY_LAYERS":              {"true", false},
	"PARAM_OCI_LAYOUT_PATH":                {}, // then nothing is looked up
	"PARAM_TAR_PATH":                       {},
	"WORKSPACE_CERTIFICATES_PATH":          {},
	"WORKSPACE_CACHE_PATH":                 {"ROOT/another-cache", false},
	"WORKSPACE_TOOLCHAINS_PATH":            {"ROOT/empty", false},
	"WORKSPACE_DOCKERCONFIG_PATH":          {"ROOT/empty", false},
	"WORKSPACE_NETRC_PATH":                 {"ROOT/empty", false},
	"WORKSPACE_GIT_CREDENTIALS_PATH":       {"ROOT/empty", false},
	"WORKSPACE_SECRETS_PATH":               {"ROOT/other-secrets", false}, // unless they are mounted
	"WORKSPACE_SOURCE_PATH":                {},
	"WORKSPACE_VOLUME_PATH":                {}, // then nothing is looked up
	"PREPARED_PATH":                        {},
	"BUILT_PATH":                           {},
	"SECRETS_PATH":                         {},
	"LOGINS_PATH":                          {},
	"WORKSPACE_SEALED_RESULTS_PATH":        {"/tekton/results", false},
	"WORKSPACE_SEALED_ARTIFACTS_PATH":      {"/tekton/artifacts", false},
	"PARAM_PUSH":                           {}, // "false" wants another output: then nothing is looked up
	"PARAM_PUSH_RETRY":                     {"3", false},
	"WORKSPACE_OUTPUT_PATH":                {"ROOT/empty", false},
	"PARAM_SKIP_UNCHANGED":                 {},
	"PARAM_SKIP_UNUSED_STAGES":             {}, // "true" or an error
	"--build-args":                         {"VERSION=2", true},
	"--kaniko-args":                        {"--annotation=a=b", true},
	"--registry-mirrors":                   {"mirror.example", false},
	"--registry-maps":                      {"gcr.io=mirror.example", false},
	"--insecure-registries":                {"registry.example", false},
	"--skip-tls-verify-registries":         {"registry.example", false},
	"--labels":                             {"a=b", true},
	"--kaniko-env":                         {"FF_KANIKO_SOMETHING=1", true},
	"--ignore-paths":                       {"/some/where", true},
	"--registry-certificates":              {},
	"--registry-client-certs":              {},
	"--tags":                               {"v2", false},
	"--template-values":                    {"A=b", false}, // but what a build arg makes of it
	"--destinations":                       {"HOST/elsewhere/app", false},
	"--immutable-tags":                     {"v1", false},
}

// A param that prepare reads and nobody has thought about here would be a way
// to get an old image for a new value.
func TestEachParamIsThoughtAbout(t *testing.T) {
	t.Parallel()
	arrays := 0
	for env := range params {
		if strings.HasPrefix(env, "--") {
			arrays++
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[prepare.Config]()) {
		env, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		if _, known := params[env]; env != "" && !known {
			t.Errorf("does %s decide the image? Add it to params", env)
		}
		if field.Anonymous && field.Type.NumField() != arrays {
			t.Errorf("there are %d array params: add those that are missing to params, which has %d", field.Type.NumField(), arrays)
		}
	}
}

// One input at a time: another value of what decides the image is another
// digest, and of what does not it is the same.
func TestInputs(t *testing.T) {
	t.Parallel()
	type change func(*testing.T, *declared)
	write := func(file, content string) change {
		return func(t *testing.T, b *declared) { t.Helper(); b.write(t, file, content) }
	}
	replace := func(old, new string) change {
		return func(t *testing.T, b *declared) {
			t.Helper()
			content, err := os.ReadFile(b.path("source/Dockerfile"))
			must(t, err)
			if strings.Count(string(content), old) != 1 {
				t.Fatalf("%q is not there once", old)
			}
			b.write(t, "source/Dockerfile", strings.Replace(string(content), old, new, 1))
		}
	}
	set := func(env, value string) change {
		return func(t *testing.T, b *declared) {
			t.Helper()
			value := strings.NewReplacer("HOST", b.host, "ROOT", b.root).Replace(value)
			if _, array := b.arrays[env]; array {
				b.arrays[env] = append(b.arrays[env], value)
			} else {
				b.env[env] = value
			}
		}
	}
	type test struct {
		before, change change
		counts         bool
	}
	mount := replace("RUN go build", "RUN --mount=type=secret,id=token go build")
	tests := map[string]test{
		"nothing": {change: func(*testing.T, *declared) {}},

		"content":                 {change: write("source/cmd/x/main.go", "package other"), counts: true},
		"a new file":              {change: write("source/cmd/x/new.go", ""), counts: true},
		"a new file of a pattern": {change: write("source/go.work", ""), counts: true},
		"mode":                    {change: func(t *testing.T, b *declared) { must(t, os.Chmod(b.path("source/go.mod"), 0o755)) }, counts: true},
		"name":                    {change: func(t *testing.T, b *declared) { must(t, os.Rename(b.path("source/cmd/x"), b.path("source/cmd/y"))) }, counts: true},
		"a symbolic link":         {change: func(t *testing.T, b *declared) { must(t, os.Symlink("x", b.path("source/cmd/y"))) }, counts: true},
		"times": {change: func(t *testing.T, b *declared) {
			must(t, os.Chtimes(b.path("source/go.mod"), time.Unix(1, 0), time.Unix(1, 0)))
		}},
		"a file that no COPY names": {change: write("source/README.md", "changed")},
		"a file left out":           {change: write("source/cmd/left-out/x", "changed")},
		"what is left out":          {change: write("source/.dockerignore", "cmd/x\n"), counts: true},
		"a rule for nothing":        {change: write("source/.dockerignore", "cmd/left-out\n*.md\n")},

		"an instruction":              {change: replace("RUN go build", "RUN go build -v"), counts: true},
		"a comment":                   {change: replace("COPY cmd", "# why\nCOPY cmd"), counts: true},
		"a stage that is not needed":  {change: replace("RUN unneeded", "RUN something else")},
		"the base of one":             {change: func(t *testing.T, b *declared) { b.put(t, "library/other", 3) }},
		"what is COPYed":              {change: replace("COPY cmd ", "COPY README.md cmd "), counts: true},
		"the base image":              {change: func(t *testing.T, b *declared) { b.put(t, "library/golang", 3) }, counts: true},
		"the base image's other name": {before: func(t *testing.T, b *declared) { b.put(t, "library/go", 1) }, change: set("--build-args", "BASE=go"), counts: true},
		"an arg that is not declared": {change: set("--build-args", "UNKNOWN=1")},
		"an arg that is given again":  {change: set("--build-args", "VERSION=1")},
		"the order of args":           {before: set("--build-args", "BASE=golang"), change: func(_ *testing.T, b *declared) { slices.Reverse(b.arrays["--build-args"]) }},
		"a proxy that is an ARG":      {before: replace("ARG VERSION\n", "ARG VERSION GOPROXY\n"), change: set("PARAM_GO_PROXY", "https://proxy.example"), counts: true},
		"a trimmed cache that is an ARG": {before: replace("ARG VERSION\n", "ARG VERSION GOCACHE GOMODCACHE\n"), change: func(t *testing.T, b *declared) {
			must(t, os.Rename(b.path("cache/go-build"), b.path("cache/go-build.1")))
		}},
		"no cache, and an ARG for it":  {before: replace("ARG VERSION\n", "ARG VERSION GOCACHE GOMODCACHE\n"), change: set("WORKSPACE_CACHE_PATH", "")},
		"a secret":                     {before: mount, change: write("secrets/token", "1235"), counts: true},
		"a secret that is not mounted": {before: mount, change: write("secrets/not-mounted", "1235")},
		"no secret":                    {before: mount, change: func(t *testing.T, b *declared) { must(t, os.Remove(b.path("secrets/token"))) }, counts: true},
		"other secrets":                {before: mount, change: set("WORKSPACE_SECRETS_PATH", "ROOT/other-secrets"), counts: true},
		"the program":                  {change: write("program", "the next program"), counts: true},
		"the platform":                 {change: func(_ *testing.T, b *declared) { b.this.Platform = "linux/amd64/v2" }, counts: true},
		"another flag of kaniko's":     {before: set("--kaniko-args", "--annotation=a=b"), change: set("--kaniko-args", "--annotation=c=d"), counts: true},
		"a compression of one's own":   {change: set("--kaniko-args", "--compression=zstd"), counts: true},
		"a flag that only logs":        {change: set("--kaniko-args", "--log-timestamp")},
		"a flag that is not known":     {change: set("--kaniko-args", "--new-in-kaniko"), counts: true},
		"a template of an arg": {before: func(_ *testing.T, b *declared) {
			b.arrays["--build-args"], b.arrays["--template-values"] = []string{"VERSION={{.A}}"}, []string{"A=a"}
		}, change: func(_ *testing.T, b *declared) { b.arrays["--template-values"] = []string{"A=b"} }, counts: true},
		"the tag":                   {change: set("PARAM_IMAGE", "HOST/team/app:v2")},
		"a layer cache":             {before: set("PARAM_SINGLE_SNAPSHOT", "false"), change: set("PARAM_LAYER_CACHE_REPO", "HOST/layers")},
		"no cache":                  {change: set("WORKSPACE_CACHE_PATH", "")},
		"when it is built":          {change: func(_ *testing.T, b *declared) { b.this.Started = b.this.Started.Add(time.Hour) }},
		"the name in the manifests": {change: set("PARAM_ARTIFACT", "name=app")},
	}
	for env, param := range params {
		if param.value != "" {
			tests[env] = test{change: set(env, param.value), counts: param.decides}
		}
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newDeclared(t, nil)
			for _, dir := range []string{"another-cache", "empty"} {
				must(t, os.Mkdir(b.path(dir), 0o755))
			}
			b.write(t, "source/other/Dockerfile", "FROM golang\nCOPY go.mod /\n")
			b.write(t, "source/other.Dockerfile", "FROM golang\n")
			b.write(t, "other-secrets/token", "12345")
			if tc.before != nil {
				tc.before(t, b)
			}
			before := b.inputs(t)
			tc.change(t, b)
			if counts := b.inputs(t) != before; counts != tc.counts {
				t.Errorf("it counts: %t, want %t", counts, tc.counts)
			}
		})
	}
}

// remember records an image for the build's inputs, as push does.
func (b *declared) remember(t *testing.T, digest string, changes ...func(*inputs.Record)) {
	t.Helper()
	p, _ := b.prepare(t)
	record, err := inputs.Take(p.Record.File)
	must(t, err)
	tag := inputs.Tag(b.repository(t, p.Record.Repository), record.Inputs)
	record.Image, record.Built, record.By = digest, time.Now().Add(-time.Hour), "team/run"
	for _, change := range changes {
		change(record)
	}
	content, err := record.Encode()
	must(t, err)
	b.record(t, tag, content)
	b.record(t, tag.Tag(p.Record.Last), content)
}

func (b *declared) repository(t *testing.T, repository string) name.Repository {
	t.Helper()
	parsed, err := name.NewRepository(repository)
	must(t, err)
	return parsed
}

func (b *declared) record(t *testing.T, tag name.Tag, content []byte) {
	t.Helper()
	client, err := own.New(own.Options{})
	must(t, err)
	must(t, client.PutArtifact(t.Context(), tag, inputs.MediaType, content))
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	for title, repository := range map[string]string{"the image's repository": "", "another": "HOST/records"} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newDeclared(t, nil)
			b.env["PARAM_UNCHANGED_REPOSITORY"] = strings.Replace(repository, "HOST", b.host, 1)
			digest := b.put(t, "team/app:v1", 5)
			b.remember(t, digest)
			p, log := b.prepare(t)
			if p.Unchanged == nil || p.Unchanged.Digest != digest || p.Unchanged.By != "team/run" || time.Since(p.Unchanged.Built) < time.Hour {
				t.Fatalf("%+v\n%s", p.Unchanged, log)
			}
			if want := "unchanged: " + digest + " was built from the same inputs by team/run, 1h0m"; !strings.Contains(log, want) {
				t.Errorf("no %q in\n%s", want, log)
			}
			if strings.Contains(log, "base ") || strings.Contains(log, "network") {
				t.Errorf("bases are fetched, or a network is named:\n%s", log)
			}
			if entries, err := os.ReadDir(b.path("secrets-for-run")); err != nil || len(entries) > 0 {
				t.Errorf("secrets are left for a build that is none: %v, %v", entries, err)
			}

			b.write(t, "source/cmd/x/main.go", "package other")
			b.arrays["--build-args"] = []string{"VERSION=2"}
			p, log = b.prepare(t)
			if want := "unchanged: no: changed since the build of team/run, 1h0m"; p.Unchanged != nil || !strings.Contains(log, want) || !strings.Contains(log, " ago: context: cmd/x/main.go; build arg VERSION\n") {
				t.Errorf("%+v, no %q in\n%s", p.Unchanged, want, log)
			}
		})
	}
}

// What a volume has that RUN instructions read is not known.
func TestUnchangedIsNotLookedForWithAVolume(t *testing.T) {
	t.Parallel()
	b := newDeclared(t, nil)
	b.remember(t, b.put(t, "team/app:v1", 5))
	b.env["WORKSPACE_VOLUME_PATH"] = b.path("empty")
	p, log := b.prepare(t)
	if want := "unchanged: not looked for: every RUN may read the workspace volume"; p.Unchanged != nil || p.Record != nil || !strings.Contains(log, want) {
		t.Errorf("%+v, %+v, no %q in\n%s", p.Unchanged, p.Record, want, log)
	}
}

// Of several images whose records are in one repository, each is told what has
// changed since its own last build.
func TestWhatHasChangedIsAnImagesOwn(t *testing.T) {
	t.Parallel()
	b := newDeclared(t, nil)
	b.env["PARAM_UNCHANGED_REPOSITORY"] = b.host + "/records"
	b.remember(t, b.put(t, "team/app:v1", 5))
	for env, value := range map[string]string{"PARAM_IMAGE": b.host + "/team/other", "PARAM_TARGET": "build"} {
		was := b.env[env]
		b.env[env] = value
		b.remember(t, b.put(t, "team/other:v1", 6), func(r *inputs.Record) { r.By = "team/other" })
		b.env[env] = was
	}
	b.write(t, "source/cmd/x/main.go", "package other")
	if p, log := b.prepare(t); p.Unchanged != nil || !strings.Contains(log, "changed since the build of team/run, ") || !strings.Contains(log, " ago: context: cmd/x/main.go\n") {
		t.Errorf("%+v\n%s", p.Unchanged, log)
	}
}

// What a RUN fetches is not among the inputs, so it is named.
func TestUnchangedNamesNetworks(t *testing.T) {
	t.Parallel()
	b := newDeclared(t, nil)
	b.write(t, "source/Dockerfile", "FROM golang\nRUN apk add git\nADD https://example.com/x /\n")
	b.remember(t, b.put(t, "team/app:v1", 5))
	_, log := b.prepare(t)
	for _, want := range []string{"Dockerfile:2: RUN apk add reaches the network", "Dockerfile:3: ADD https://example.com/x reaches the network"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
}

// Whatever a tag points at, only a record of these very inputs with an image
// that is there is taken. All else is told, and means a build.
func TestRecordsThatAreNotTaken(t *testing.T) {
	t.Parallel()
	ref := func(t *testing.T, b *declared) name.Tag {
		t.Helper()
		return inputs.Tag(b.repository(t, b.host+"/team/app"), b.inputs(t))
	}
	for title, tc := range map[string]struct {
		put  func(*testing.T, *declared)
		says string
	}{
		"nothing": {func(*testing.T, *declared) {}, "nothing is known to have been built from these inputs"},
		"an image": {func(t *testing.T, b *declared) {
			img, err := random.Image(10, 1)
			must(t, err)
			must(t, remote.Write(ref(t, b), img))
		}, "it is something else"},
		"an index": {func(t *testing.T, b *declared) {
			index, err := random.Index(10, 1, 1)
			must(t, err)
			must(t, remote.WriteIndex(ref(t, b), index))
		}, "it is something else"},
		"garbage": {func(t *testing.T, b *declared) { b.record(t, ref(t, b), []byte("garbage")) }, "it is no record of inputs"},
		"another artifact": {func(t *testing.T, b *declared) {
			client, err := own.New(own.Options{})
			must(t, err)
			must(t, client.PutArtifact(t.Context(), ref(t, b), "application/vnd.example+json", []byte("{}")))
		}, "it is something else"},
		"a record of other inputs": {func(t *testing.T, b *declared) {
			b.remember(t, b.put(t, "team/app:v1", 5), func(r *inputs.Record) { r.Inputs = strings.Repeat("0", 64) })
		}, "is of other inputs, 000000000000"},
		"a record of nothing":            {func(t *testing.T, b *declared) { b.remember(t, "") }, "it names no image"},
		"an image that is gone":          {func(t *testing.T, b *declared) { b.remember(t, "sha256:"+strings.Repeat("1", 64)) }, "has it no more"},
		"an image of another repository": {func(t *testing.T, b *declared) { b.remember(t, b.put(t, "team/other:v1", 5)) }, "has it no more"},
		"an index as the image": {func(t *testing.T, b *declared) {
			index, err := random.Index(10, 1, 1)
			must(t, err)
			must(t, remote.WriteIndex(b.repository(t, b.host+"/team/app").Tag("index"), index))
			digest, err := index.Digest()
			must(t, err)
			b.remember(t, digest.String())
		}, "it is something else, no image"},
		"a record as the image": {func(t *testing.T, b *declared) {
			tag := b.repository(t, b.host+"/team/app").Tag("record")
			b.record(t, tag, []byte("{}"))
			found, err := remote.Head(tag)
			must(t, err)
			b.remember(t, found.Digest.String())
		}, "it is something else, no image"},
		"an old image": {func(t *testing.T, b *declared) {
			b.env["PARAM_UNCHANGED_TTL"] = "59m"
			b.remember(t, b.put(t, "team/app:v1", 5))
		}, "s ago: the param unchanged-ttl says 59m0s"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newDeclared(t, nil)
			tc.put(t, b)
			p, log := b.prepare(t)
			if p.Unchanged != nil || !strings.Contains(log, tc.says) {
				t.Errorf("%+v, no %q in\n%s", p.Unchanged, tc.says, log)
			}
			if !strings.Contains(log, "base golang is ") {
				t.Errorf("nothing is prepared for a build:\n%s", log)
			}
		})
	}
}

func TestRegistryThatCannotSay(t *testing.T) {
	t.Parallel()
	for status, says := range map[int]string{
		http.StatusForbidden:           "unchanged: no: registry HOST refused to pull team/app",
		http.StatusInternalServerError: "unchanged: no: registry HOST: 500",
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			b := newDeclared(t, func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/team/app/") {
					w.WriteHeader(status)
					return true
				}
				return false
			})
			p, log := b.prepare(t)
			if want := strings.Replace(says, "HOST", b.host, 1); p.Unchanged != nil || !strings.Contains(log, want) {
				t.Errorf("%+v, no %q in\n%s", p.Unchanged, want, log)
			}
		})
	}
}

func TestUnchangedSwitchedOff(t *testing.T) {
	t.Parallel()
	var asked []string
	b := newDeclared(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/team/app/") {
			asked = append(asked, r.URL.Path)
		}
		return false
	})
	b.env["PARAM_SKIP_UNCHANGED"] = "false"
	p, log := b.prepare(t)
	if p.Unchanged != nil || p.Record != nil || strings.Contains(log, "inputs") || len(asked) > 0 {
		t.Errorf("%+v, %+v, %q\n%s", p.Unchanged, p.Record, asked, log)
	}
}
