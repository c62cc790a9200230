// Package deploy renders a kustomize overlay with the built images in it,
// applies it, and waits until it is rolled out. A file a verb: confine, render,
// apply, wait, explain, report.
package deploy

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/step"
)

// config is the step's environment; tasks/deploy.yaml describes the params and
// holds their defaults. The images are the step's arguments.
type config struct {
	Source    string        `env:"WORKSPACE_SOURCE_PATH, required"`
	Overlay   string        `env:"PARAM_OVERLAY, required"`
	Namespace string        `env:"PARAM_NAMESPACE"`
	Timeout   time.Duration `env:"PARAM_TIMEOUT, required"` // of the whole step

	Kubeconfig string `env:"WORKSPACE_KUBECONFIG_PATH"` // "" for the cluster the step runs in
	Context    string `env:"PARAM_CONTEXT"`

	Changes string `env:"RESULT_CHANGES_PATH"`
}

// Run deploys images, each as [parseImage] reads it, by the params and
// workspaces in env, and tells log what changed and how the rollout goes.
//
// Its errors are [step.BadInput] for what the user has to mend and
// [step.NotReady] once everything is applied. When ctx ends first, so does
// Run, with an error that says how far it came.
func Run(ctx context.Context, images []string, env envconfig.Lookuper, log io.Writer) error {
	var c config
	if err := step.Load(ctx, &c, env); err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return step.BadInput(fmt.Errorf("timeout %s: give a duration above 0, such as 5m", c.Timeout))
	}
	deadline, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("the param timeout, %s, is over", c.Timeout))
	defer cancel()

	parsed, err := parseImages(images)
	if err != nil {
		return step.BadInput(err)
	}
	objects, err := render(c.Source, c.Overlay, parsed, c.Namespace)
	if err != nil {
		return step.BadInput(err)
	}
	to, err := connect(c.Kubeconfig, c.Context, c.Namespace, log)
	if err != nil {
		return step.BadInput(err)
	}

	logf(log, "%s: %d objects to %s", c.Overlay, len(objects), to.host)
	for _, img := range parsed {
		logf(log, "image %s is %s", img.name, img)
	}
	applied, err := to.apply(deadline, objects)
	if err != nil {
		return err
	}
	made := count(applied)
	logf(log, "%s", made)
	if err := step.WriteResult(c.Changes, made.String()); err != nil {
		return err
	}

	begun := time.Now()
	waiting, err := to.wait(deadline, applied)
	switch {
	case err != nil:
		return err
	case len(waiting) == 0:
		logf(log, "all %d objects are ready after %s", len(applied), time.Since(begun).Round(time.Second))
		return nil
	case ctx.Err() != nil:
		return step.NotReady(stopped(ctx, applied, waiting))
	default:
		// The deadline is over: explaining has a short one of its own.
		return step.NotReady(to.explain(ctx, waiting, time.Since(begun)))
	}
}

func logf(log io.Writer, format string, args ...any) {
	// A log that cannot be written must not stop a deploy.
	_, _ = fmt.Fprintf(log, format+"\n", args...)
}
