package prepare_test

import (
	"slices"
	"strings"
	"testing"
)

// withLayers gives the build a layer cache and a Dockerfile.
func (b *declared) withLayers(t *testing.T, dockerfile string) {
	t.Helper()
	b.env["PARAM_LAYER_CACHE_REPO"], b.env["PARAM_SINGLE_SNAPSHOT"] = b.host+"/layers", "false"
	b.write(t, "source/Dockerfile", dockerfile)
}

// What decides a layer and is not in kaniko's own keys leads to other layers.
func TestLayersAreOfOneKindOfBuild(t *testing.T) {
	t.Parallel()
	const (
		unneeded   = "FROM golang AS unneeded\nRUN <<END\nunneeded\nEND\n"
		dockerfile = unneeded + "FROM golang\nRUN <<END\necho one\nEND\nCOPY <<TEXT /x\none\nTEXT\n"
	)
	env := func(name, value string) func(*testing.T, *declared) {
		return func(_ *testing.T, b *declared) { b.env[name] = value }
	}
	array := func(name string, values ...string) func(*testing.T, *declared) {
		return func(_ *testing.T, b *declared) { b.arrays[name] = values }
	}
	file := func(old, new string) func(*testing.T, *declared) {
		return func(t *testing.T, b *declared) {
			t.Helper()
			b.write(t, "source/Dockerfile", strings.Replace(dockerfile, old, new, 1))
		}
	}
	for title, tc := range map[string]struct {
		change func(*testing.T, *declared)
		other  bool
	}{
		"nothing":                     {func(*testing.T, *declared) {}, false},
		"go-flags":                    {env("PARAM_GO_FLAGS", "-tags=x"), true},
		"ignore-var-run":              {env("PARAM_IGNORE_VAR_RUN", "false"), true},
		"snapshot-mode":               {env("PARAM_SNAPSHOT_MODE", "time"), true},
		"use-new-run":                 {env("PARAM_USE_NEW_RUN", "true"), true},
		"ignore-paths":                {array("--ignore-paths", "/opt"), true},
		"kaniko-env":                  {array("--kaniko-env", "FF_X=1"), true},
		"kaniko-args":                 {array("--kaniko-args", "--skip-push-permission-check"), true},
		"a RUN's heredoc":             {file("echo one", "echo two"), true},
		"a COPY's heredoc":            {file("\none\nTEXT", "\ntwo\nTEXT"), true},
		"a heredoc that is not built": {file("\nunneeded\n", "\nchanged\n"), false},
		"another instruction":         {file("COPY <<", "USER 1\nCOPY <<"), false}, // it is in kaniko's keys
		"labels":                      {array("--labels", "a=b"), false},
		"the tag":                     {func(_ *testing.T, b *declared) { b.env["PARAM_IMAGE"] = b.host + "/team/app:v2" }, false},
		"the repository":              {func(_ *testing.T, b *declared) { b.env["PARAM_IMAGE"] = b.host + "/team/other" }, true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newDeclared(t, nil)
			b.withLayers(t, dockerfile)
			before, _ := b.prepare(t)
			tc.change(t, b)
			after, _ := b.prepare(t)
			if other := before.Layers.Index != after.Layers.Index; other != tc.other {
				t.Errorf("other layers: %t, want %t", other, tc.other)
			}
		})
	}
}

// A layer in the place of a RUN that downloads modules would not have them.
func TestDownloadsOfModulesAreNoLayers(t *testing.T) {
	t.Parallel()
	const told = "layer cache: not for RUN: Dockerfile:2: RUN go mod download leaves modules in the module cache, "
	for title, tc := range map[string]struct {
		dockerfile string
		change     func(*declared)
		cached     bool
		told       bool
	}{
		"no download":           {"FROM golang\nRUN go build\n", func(*declared) {}, true, false},
		"a download":            {"FROM golang\nRUN go mod download\nRUN go build\n", func(*declared) {}, false, true},
		"not for RUN anyway":    {"FROM golang\nRUN go mod download\n", func(b *declared) { b.env["PARAM_CACHE_RUN_LAYERS"] = "false" }, false, false},
		"without a layer cache": {"FROM golang\nRUN go mod download\n", func(b *declared) { b.env["PARAM_LAYER_CACHE_REPO"] = "" }, false, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newDeclared(t, nil)
			b.withLayers(t, tc.dockerfile)
			tc.change(b)
			p, log := b.prepare(t)
			if cached := slices.Contains(p.Args, "--cache-run-layers=true"); cached != tc.cached {
				t.Errorf("cached: %t, want %t\n%s", cached, tc.cached, p.Args)
			}
			if strings.Contains(log, told) != tc.told {
				t.Errorf("told: %t, want %t\n%s", !tc.told, tc.told, log)
			}
		})
	}
}
