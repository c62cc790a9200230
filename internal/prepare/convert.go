package prepare

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/frontend"
	"github.com/slipway-ci/slipway/internal/inputs"
	"github.com/slipway-ci/slipway/internal/operation"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// converted is what kaniko builds, with what push makes of it.
type converted struct {
	*dockerfile.Converted
	config []byte // the image's configuration
	world  operation.World
}

// convert has BuildKit's front end say what the derived Dockerfile means, and
// makes kaniko's of it.
func convert(ctx context.Context, c *Config, host Host, source *source, derived *dockerfile.Derived, bases *bases, args []string) (*converted, error) {
	platform, err := platforms.Parse(host.Platform)
	if err != nil {
		return nil, fmt.Errorf("platform %s: %w", host.Platform, err)
	}
	definition, err := frontend.Read(ctx, derived.Content, frontend.Options{
		Target:    derived.Target,
		BuildArgs: pairs(args),
		Platform:  platform,
		Labels:    pairs(c.Labels),
		Config:    bases.imageConfig,
	})
	if at := new(frontend.Error); errors.As(err, &at) {
		return nil, step.BadInput(derived.ErrorAt(at.Line, at.Error()))
	}
	if err != nil {
		return nil, err
	}
	world := operation.World{Context: source.context.Dir(), Ignore: source.context.Patterns(), Kept: filepath.Join(c.Built, "kept")}
	options := dockerfile.ConvertOptions{Command: []string{programFor(c), "operation", c.Prepared}, World: world, Together: c.SingleSnapshot}
	if c.LayerCacheRepo != "" {
		options.Digest = func(o *operation.Operation) (string, error) { return taken(ctx, source, o) }
	}
	result, err := derived.Convert(ctx, definition, options)
	if err != nil {
		return nil, badDockerfile(err)
	}
	return &converted{result, definition.Config, world}, nil
}

// hidden are the paths of kaniko's container that are in no stage: what is
// mounted there, and what is set up for RUN instructions to find.
func hidden(c *Config, host Host, p *plan.Plan) []string {
	paths := mounted(c, host)
	for _, arg := range p.Args {
		if ignored, ok := strings.CutPrefix(arg, "--ignore-path="); ok && !slices.Contains(c.IgnorePaths, ignored) {
			paths = append(paths, ignored)
		}
	}
	return paths
}

// pairs are entries "NAME=VALUE" by name; of a name that is there twice the last
// counts.
func pairs(entries []string) map[string]string {
	values := map[string]string{}
	for _, entry := range entries {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	return values
}

// taken returns a digest of an operation and of what it takes of the build
// context. With it, kaniko's key of a layer changes when the layer may.
func taken(ctx context.Context, source *source, o *operation.Operation) (string, error) {
	var paths []string
	if o.Copy != nil {
		for _, a := range o.Copy.Actions {
			if a.From == (operation.Source{}) {
				paths = append(paths, a.Src)
			}
		}
	}
	if o.Exec != nil {
		for _, m := range o.Exec.Mounts {
			if m.From != nil && *m.From == (operation.Source{}) {
				paths = append(paths, m.Path)
			}
		}
	}
	for i := range paths {
		if paths[i] = strings.TrimPrefix(path.Clean("/"+paths[i]), "/"); paths[i] == "" {
			paths[i] = "."
		}
	}
	encoded, err := operation.Encode([]operation.Operation{*o})
	if err != nil {
		return "", err
	}
	list := inputs.List{{Kind: inputs.Operations, Value: encoded}}
	if len(paths) > 0 {
		taken, err := inputs.Context{Files: source.context, Paths: paths}.List(ctx)
		if err != nil {
			return "", err
		}
		list = append(list, taken...)
	}
	return inputs.New(list).Inputs, nil
}
