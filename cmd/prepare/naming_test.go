package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// clone makes the source a clone, tagged v1.
func (w *world) clone(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a@example", "commit", "-qm", "x"}, {"tag", "v1"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = w.path("source")
		cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

func TestTagsAndTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\nARG VERSION\nARG PLAIN\n")
	w.clone(t)
	w.array("--tags", "gitCommit", "{{.GIT}}-{{.CHANNEL}}")
	w.array("--template-values", "CHANNEL=edge")
	w.array("--destinations", "mirror.example/app")
	w.array("--build-args", "VERSION={{.IMAGE_NAME}}:{{.IMAGE_TAG}} in {{.CHANNEL}}", "PLAIN=100 % }}")
	log := w.mustRun(t)
	for _, want := range []string{"image: " + w.host + "/team/app:v1\n", "image: " + w.host + "/team/app:v1-edge\n", "image: mirror.example/app:latest\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s%s", want, log)
		}
	}
	p, err := plan.Read(w.path("prepared"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Tags, " "); got != "v1 v1-edge" {
		t.Errorf("tags %s", got)
	}
	for _, want := range []string{"--build-arg=VERSION=app:v1 in edge", "--build-arg=PLAIN=100 % }}"} {
		if got := strings.Join(p.Args, "\n"); !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}

	w.write(t, "source/new", "")
	if log := w.mustRun(t); !strings.Contains(log, "/team/app:v1-dirty\n") {
		t.Errorf("with a file that is not committed:\n%s", log)
	}
}

func TestBadNames(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		array, value string
		want         string
	}{
		"no clone":            {"--tags", "gitCommit", `param tags: "gitCommit": gitCommit: workspace source: no git clone: neither . nor a folder above it has a .git`},
		"an unknown variable": {"--build-args", "VERSION={{.RELEASE}}", "param build-args: VERSION: there is no variable RELEASE; there are DATE, GIT, IMAGE_NAME, IMAGE_REPO, IMAGE_TAG, INPUT_DIGEST, SHA"},
		"a bad variable":      {"--template-values", "RELEASE", `param template-values: "RELEASE" is not NAME=VALUE with a name of letters, digits and _`},
		"a bad destination":   {"--destinations", "mirror.example/App", "param destinations: repository can only contain the characters `abcdefghijklmnopqrstuvwxyz0123456789_-./`: App"},
		"a bad pattern":       {"--immutable-tags", "[", `param immutable-tags: "[" is no pattern: syntax error in pattern`},
		"too many":            {"--tags", strings.Repeat("x", 128), ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.write(t, "source/Dockerfile", "FROM golang:alpine\nARG VERSION\n")
			w.array(tc.array, tc.value)
			if title == "too many" {
				for _, letter := range "abcdefgh" {
					w.array("--tags", strings.Repeat(string(letter), 128))
				}
				tc.want = "params tags and destinations: the image's names have 1"
			}
			code, stderr := w.run(t)
			if last := lastLine(stderr); code != step.ExitBadInput || !strings.HasPrefix(last, "prepare: "+tc.want) {
				t.Errorf("exit code %d\ngot  %s\nwant prepare: %s", code, last, tc.want)
			}
		})
	}
}

// A tag that is taken and must not move ends the build before it begins.
func TestATagThatMustNotMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	taken, err := name.NewTag(w.host + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(taken, img); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	w.array("--tags", "v1", "edge")
	w.mustRun(t)
	w.array("--immutable-tags", "edge", "v[2-9]*")
	w.mustRun(t)
	w.array("--immutable-tags", "v*")
	code, stderr := w.run(t)
	want := "prepare: param immutable-tags: " + taken.String() + " is " + digest.String() + " already, and must not move; give the image another tag"
	if last := lastLine(stderr); code != step.ExitBadInput || last != want {
		t.Errorf("exit code %d\ngot  %s\nwant %s", code, last, want)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}
