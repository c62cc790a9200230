package tasks_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/sethvargo/go-envconfig"
	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/slipway-ci/slipway/internal/checkcache"
	"github.com/slipway-ci/slipway/internal/cleanup"
	"github.com/slipway-ci/slipway/internal/deploy"
	"github.com/slipway-ci/slipway/internal/explain"
	"github.com/slipway-ci/slipway/internal/fetch"
	"github.com/slipway-ci/slipway/internal/kaniko"
	"github.com/slipway-ci/slipway/internal/prepare"
	"github.com/slipway-ci/slipway/internal/push"
	"github.com/slipway-ci/slipway/internal/step"
)

// configs read what the programs of the steps take from their environment, by
// the folder of the program and, where there is one, its subcommand.
var configs = map[string]func(context.Context, envconfig.Lookuper) error{
	"cmd/check-cache": read[checkcache.Config],
	"cmd/cleanup":     read[cleanup.Config],
	"cmd/deploy": func(ctx context.Context, env envconfig.Lookuper) error {
		return deploy.Run(ctx, nil, env, io.Discard) // ends at once: a timeout of 0 is refused
	},
	"cmd/fetch":              read[fetch.Config],
	"cmd/explain":            read[explain.Config],
	"cmd/prepare":            read[prepare.Config],
	"cmd/prepare run-kaniko": read[kaniko.Config],
	"cmd/push":               read[push.Config],
}

func read[Config any](ctx context.Context, env envconfig.Lookuper) error {
	return step.Load(ctx, new(Config), env)
}

// libraries are what steps set for the libraries of their programs.
var libraries = map[string]bool{"HOME": true, "DOCKER_CONFIG": true, "TMPDIR": true, "GOMEMLIMIT": true, "HTTP_PROXY": true, "HTTPS_PROXY": true, "NO_PROXY": true}

func TestTasks(t *testing.T) {
	t.Parallel()
	for name, task := range load(t).tasks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if task.Spec.Description == "" {
				t.Error("it has no description")
			}
			raw := marshal(t, task.Spec)
			used := matches(usedParam, raw)
			for _, param := range task.Spec.Params {
				if !used[param.Name] {
					t.Errorf("param %s is used nowhere", param.Name)
				}
				if param.Description == "" {
					t.Errorf("param %s has no description", param.Name)
				}
			}
			for _, workspace := range task.Spec.Workspaces {
				// One whose place is a param's to say is for RUN instructions.
				if workspace.MountPath == "" && !strings.Contains(raw, "$(workspaces."+workspace.Name+".") {
					t.Errorf("workspace %s is used nowhere", workspace.Name)
				}
			}
			for _, result := range task.Spec.Results {
				if !strings.Contains(raw, "$(results."+result.Name+".path)") {
					t.Errorf("result %s is written by no step", result.Name)
				}
				if result.Description == "" {
					t.Errorf("result %s has no description", result.Name)
				}
			}
			for _, s := range task.Spec.Steps {
				checkStep(t, task, s)
			}
		})
	}
}

func checkStep(t *testing.T, task *pipelinev1.Task, s pipelinev1.Step) {
	t.Helper()
	if s.Script != "" {
		t.Errorf("step %s has a script: give it a command", s.Name)
	}
	if len(s.Command) == 0 {
		t.Errorf("step %s has no command", s.Name)
	}
	for _, word := range s.Command {
		if reference.MatchString(word) {
			t.Errorf("step %s: the command takes %s from outside", s.Name, word)
		}
	}
	switch match := wholeParam.FindStringSubmatch(s.Image); {
	case match != nil:
		// The user's choice: its default says which version is tested, since the
		// digest in a user's own mirror may be another.
		spec := byName(task.Spec.Params)[match[1]]
		if image := spec.Default; image == nil || !ours(image.StringVal) && !pinnedImage.MatchString(image.StringVal) && !versionImage.MatchString(image.StringVal) {
			t.Errorf("step %s: the default of param %s is no image of a certain version", s.Name, match[1])
		}
	case !ours(s.Image) && !pinnedImage.MatchString(s.Image):
		t.Errorf("step %s: image %s is neither ours nor pinned by digest", s.Name, s.Image)
	}
	for _, env := range s.Env {
		if want, ok := valueOf(task, env.Name); contractName.MatchString(env.Name) && (!ok || env.Value != want) {
			t.Errorf("step %s: %s is %s, want %q", s.Name, env.Name, env.Value, want)
		}
	}
}

func ours(image string) bool { return strings.HasPrefix(image, module) }

// valueOf is the value that an env name of the convention stands for.
func valueOf(task *pipelinev1.Task, env string) (value string, ok bool) {
	for _, param := range task.Spec.Params {
		if env == "PARAM_"+envName(param.Name) {
			return "$(params." + param.Name + ")", true
		}
	}
	for _, workspace := range task.Spec.Workspaces {
		switch env {
		case "WORKSPACE_" + envName(workspace.Name) + "_PATH":
			return "$(workspaces." + workspace.Name + ".path)", true
		case "WORKSPACE_" + envName(workspace.Name) + "_BOUND":
			return "$(workspaces." + workspace.Name + ".bound)", true
		}
	}
	for _, result := range task.Spec.Results {
		if env == "RESULT_"+envName(result.Name)+"_PATH" {
			return "$(results." + result.Name + ".path)", true
		}
	}
	return "", false
}

// envName writes go-proxy, and sslVerify as the catalog has it, as GO_PROXY and
// SSL_VERIFY.
func envName(name string) string {
	var out []rune
	lower := false
	for _, r := range name {
		switch {
		case r == '-':
			out = append(out, '_')
		case unicode.IsUpper(r) && lower:
			out = append(out, '_', r)
		default:
			out = append(out, unicode.ToUpper(r))
		}
		lower = unicode.IsLower(r)
	}
	return string(out)
}

// recorder notes each key that is looked up. Every key but the missing one has
// a value that any type of a configuration can be read from.
type recorder struct {
	keys    map[string]bool
	missing string
}

func (r recorder) Lookup(key string) (string, bool) {
	r.keys[key] = true
	return "0", key != r.missing
}

func (r recorder) Key(key string) string { return key }

// A step sets what its program reads, and nothing else; what the program cannot
// do without always has a value.
func TestStepsSetWhatTheirProgramsRead(t *testing.T) {
	t.Parallel()
	joined := map[string]bool{}
	for name, task := range load(t).tasks {
		for _, s := range task.Spec.Steps {
			program := programOf(s)
			config, ok := configs[program]
			if !ok {
				continue
			}
			joined[program] = true
			looked := recorder{keys: map[string]bool{}}
			_ = config(t.Context(), looked)
			set := map[string]bool{}
			for _, env := range s.Env {
				if !libraries[env.Name] {
					set[env.Name] = true
				}
			}
			if diff := cmp.Diff(looked.keys, set); diff != "" {
				t.Errorf("Task %s, step %s: what the program reads (-) and the step sets (+):\n%s", name, s.Name, diff)
			}
			for key := range looked.keys {
				err := config(t.Context(), recorder{keys: map[string]bool{}, missing: key})
				checkRequired(t, task, key, errors.Is(err, envconfig.ErrMissingRequired))
			}
		}
	}
	for program := range configs {
		if !joined[program] {
			t.Errorf("%s is the program of no step", program)
		}
	}
	commands, err := fs.Glob(os.DirFS(".."), "cmd/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		if _, ok := configs[filepath.Dir(command)]; !ok {
			t.Errorf("nothing joins %s with the step that runs it: add it to configs", filepath.Dir(command))
		}
	}
}

// checkRequired holds a param against the program: it is required at both ends
// or at none, and a default of what is required is not empty.
func checkRequired(t *testing.T, task *pipelinev1.Task, key string, required bool) {
	t.Helper()
	for _, param := range task.Spec.Params {
		if key != "PARAM_"+envName(param.Name) {
			continue
		}
		switch {
		case required && param.Default != nil && param.Default.StringVal == "":
			t.Errorf("Task %s, param %s: its default is empty, but the program requires it", task.Name, param.Name)
		case !required && param.Default == nil:
			t.Errorf("Task %s, param %s: it has no default, but the program does without it", task.Name, param.Name)
		}
	}
}

// programOf is the key of configs for what a step runs: the folder of its
// image, unless another step left its program on a volume.
func programOf(s pipelinev1.Step) string {
	program, built := strings.CutPrefix(s.Image, module)
	if !built {
		program = "cmd/" + filepath.Base(s.Command[0])
	}
	for _, word := range slices.Concat(s.Command, s.Args)[1:] {
		if _, subcommand := configs[program+" "+word]; subcommand {
			return program + " " + word
		}
	}
	return program
}

// Tekton's types are for this test. In a step they would be megabytes that do
// nothing, and tie it to a version of Tekton.
func TestStepsDoWithoutTekton(t *testing.T) {
	t.Parallel()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/...")
	list.Dir = ".."
	output, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, output)
	}
	for dependency := range strings.Lines(string(output)) {
		if strings.HasPrefix(dependency, "github.com/tektoncd/") || strings.HasPrefix(dependency, "knative.dev/") {
			t.Errorf("a step imports %s", strings.TrimSpace(dependency))
		}
	}
}
