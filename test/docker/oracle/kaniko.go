package oracle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/slipway-ci/slipway/test/docker/container"
)

// kanikoAlone builds a case in a container like that of the step build, with
// nothing of Slipway in it. kaniko pushes the image.
func (s *slipway) kanikoAlone(ctx context.Context, c Case, dir string) (outcome, error) {
	repository := fmt.Sprintf("built/%d", s.builds.Add(1))
	b := slipwayBuild{slipway: s, c: c, dir: dir, image: s.registry + "/" + repository}
	if err := c.copyContext(ctx, filepath.Join(dir, "source")); err != nil {
		return outcome{}, err
	}
	at := slices.IndexFunc(s.task.Spec.Steps, func(one tekton.Step) bool { return one.Name == "build" })
	if at < 0 {
		return outcome{}, errors.New("tasks/build.yaml has no step build")
	}
	one := tekton.Step{
		Name:            "build",
		Command:         []string{"/kaniko/executor"},
		Args:            b.kanikoArgs(),
		Workspaces:      []tekton.WorkspaceUsage{{Name: "source"}},
		SecurityContext: s.task.Spec.Steps[at].SecurityContext,
	}
	bounded, cancel := withinBound(ctx)
	defer cancel()
	err := b.run(bounded, one)
	var exit *exec.ExitError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return outcome{}, context.Cause(ctx)
	case bounded.Err() != nil:
		return outcome{}, fmt.Errorf("kaniko does not end: %w: %s", context.Cause(bounded), lastLines(b.log.String(), 3))
	case !errors.As(err, &exit), exit.ExitCode() == container.ExitNoContainer:
		return outcome{}, fmt.Errorf("run kaniko: %w: %s", err, lastLines(b.log.String(), 3))
	default:
		return outcome{failed: err.Error(), log: b.log.String()}, nil
	}
	image, err := b.pushed(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("read the image that kaniko has pushed: %w", err)
	}
	return outcome{repository: repository, image: image, log: b.log.String()}, nil
}

// kanikoArgs are the flags of an executor that stands alone: what the case says,
// how the registry is reached, and what the task's params are by default.
func (b *slipwayBuild) kanikoArgs() []string {
	source := b.value([]string{"", "workspaces", "source"})[0]
	param := func(name string) string { return b.value([]string{"", "params", name})[0] }
	args := []string{
		"--dockerfile=" + filepath.Join(source, "Dockerfile"),
		"--context=dir://" + source,
		"--destination=" + b.image,
		"--insecure",
		"--insecure-registry=" + b.registry,
		"--registry-mirror=" + b.registry,
		"--skip-default-registry-fallback",
		"--single-snapshot=" + param("single-snapshot"),
		"--use-new-run=" + param("use-new-run"),
		"--ignore-var-run=" + param("ignore-var-run"),
	}
	for _, host := range upstreams[1:] {
		args = append(args, "--registry-map="+host+"="+b.registry)
	}
	for _, key := range slices.Sorted(maps.Keys(b.c.Args)) {
		args = append(args, "--build-arg="+key+"="+b.c.Args[key])
	}
	if b.c.Target != "" {
		args = append(args, "--target="+b.c.Target)
	}
	return args
}
