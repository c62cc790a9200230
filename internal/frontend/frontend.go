// Package frontend asks BuildKit's own Dockerfile front end what a Dockerfile
// means: the configuration of its image, and for each instruction the operation
// that BuildKit would carry out, with all variables, paths and users resolved.
package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options are what a build asks of a Dockerfile.
type Options struct {
	Target    string // a stage's name; "" is the last
	BuildArgs map[string]string
	Platform  ocispecs.Platform // of the node, and of each FROM without one
	Labels    map[string]string // of the image, over the Dockerfile's
	// Config returns the configuration of a base image, by the reference that
	// the Dockerfile has, in the form of the OCI image specification.
	Config func(ctx context.Context, ref string) ([]byte, error)
}

// Definition is what a Dockerfile means.
type Definition struct {
	// Config is the image's configuration as BuildKit writes it, without
	// rootfs, history and time.
	Config json.RawMessage

	ops map[int][]op // by line, in the order in which they run
}

// op is an operation of BuildKit's with what it reads.
type op struct {
	*pb.Op
	inputs []*op
	digest digest.Digest
}

// Error is what BuildKit's front end says of a Dockerfile.
type Error struct {
	Line int // 0 where it does not say which
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// caps are all that BuildKit can do.
var caps = pb.Caps.CapSet(pb.Caps.All())

// Read has BuildKit's front end read a Dockerfile. What is wrong with it comes
// back as an [Error].
func Read(ctx context.Context, content []byte, o Options) (*Definition, error) {
	result, err := dockerfile2llb.Dockerfile2LLB(ctx, content, dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs:      o.BuildArgs,
			Target:         o.Target,
			Labels:         o.Labels,
			BuildPlatforms: []ocispecs.Platform{o.Platform},
		},
		// No target platform: a FROM --platform is the image's, as where docker
		// build is asked for none.
		SourceMap:    llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", content),
		MetaResolver: resolver(o.Config),
		LLBCaps:      &caps,
	})
	if err != nil {
		return nil, located(err)
	}
	image := result.Image
	image.Created, image.History, image.RootFS = nil, nil, ocispecs.RootFS{}
	if image.OS == "" || image.Architecture == "" { // a base image without them
		image.Platform = o.Platform
	}
	d := &Definition{ops: map[int][]op{}}
	if d.Config, err = json.Marshal(image); err != nil {
		return nil, err
	}
	definition, err := result.State.Marshal(ctx)
	if err != nil {
		return nil, located(err)
	}
	return d, d.read(definition)
}

// located is an error of the front end, with its line.
func located(err error) error {
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		return &Error{Line: at.Locations[0][0].Start.Line, Err: err}
	}
	return &Error{Err: err}
}

// read finds the operations of each line.
func (d *Definition) read(definition *llb.Definition) error {
	all := map[digest.Digest]*op{}
	for _, encoded := range definition.Def { // what an operation reads stands before it
		var decoded pb.Op
		if err := decoded.UnmarshalVT(encoded); err != nil {
			return fmt.Errorf("read BuildKit's definition: %w", err)
		}
		one := &op{Op: &decoded, digest: digest.FromBytes(encoded)}
		for _, input := range decoded.Inputs {
			one.inputs = append(one.inputs, all[digest.Digest(input.Digest)])
		}
		all[one.digest] = one
		if definition.Source == nil {
			continue
		}
		locations := definition.Source.Locations[string(one.digest)]
		if locations == nil {
			continue
		}
		for _, location := range locations.Locations {
			if len(location.Ranges) > 0 {
				line := int(location.Ranges[0].Start.Line)
				d.ops[line] = append(d.ops[line], *one)
			}
		}
	}
	return nil
}

// resolver serves the configurations of base images to the front end.
type resolver func(ctx context.Context, ref string) ([]byte, error)

// ResolveImageConfig is [llb.ImageMetaResolver]'s.
func (r resolver) ResolveImageConfig(ctx context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config, err := r(ctx, ref)
	return ref, "", config, err
}
