package prepare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/inputs"
	"github.com/slipway-ci/slipway/internal/kaniko"
	"github.com/slipway-ci/slipway/internal/operation"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/step"
)

// askFor bounds the time that a registry may take to say what it knows of a
// build's inputs.
const askFor = 10 * time.Second

// unchanged finds the image that an earlier build has made of the same inputs.
type unchanged struct {
	config    *Config
	host      Host
	client    *registry.Client
	program   func() (inputs.Input, error) // as an input, once it is known
	source    *source
	derived   *dockerfile.Derived
	converted *converted
	bases     *bases
	secrets   secrets
	log       *log

	now *inputs.Record // this build's, once it is known
	old *inputs.Record // of the same inputs, with an image that is there, but too old
	// unanswered is that the registry did not say what was built.
	unanswered bool
}

// find completes the plan with that image, or with what push is to record of
// this build. Whatever stands in the way is told, and means a build; an error
// is that ctx has ended.
func (u *unchanged) find(ctx context.Context, p *plan.Plan, buildArgs []string) error {
	if !u.config.SkipUnchanged {
		return nil
	}
	if u.config.OutputLayout != "" || u.config.OutputTar != "" {
		u.log.printf("unchanged: not looked for: the params oci-layout-path and tar-path take the image from the build")
		return nil
	}
	if u.config.Volume != "" {
		u.log.printf("unchanged: not looked for: every RUN may read the workspace volume, and what it has is not known")
		return nil
	}
	image, records, err := u.repositories()
	if err != nil {
		u.log.printf("unchanged: not looked for: %v", err)
		return nil
	}
	last := inputs.LastTag(records, image.Name(), u.config.Context, u.config.Dockerfile, u.config.Target)
	// In most builds something has changed: asked for while this build's are read.
	lastRecord, forget := u.ask(ctx, last)
	defer forget()
	now, err := u.inputs(ctx, p, buildArgs)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		u.log.printf("unchanged: not looked for: %v", err)
		return nil
	}
	p.Record = &plan.Record{Repository: records.Name(), Last: last.TagStr(), File: filepath.Join(u.config.Prepared, "inputs.json")}
	if err := now.Leave(p.Record.File); err != nil {
		return fmt.Errorf("write the inputs: %w", err)
	}

	asking, cancel := patiently(ctx)
	defer cancel()
	found, err := u.record(asking, inputs.Tag(records, now.Inputs))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = changed(lastRecord, now)
	case err == nil:
		if err = u.holds(asking, found, now, image); err == nil {
			if err = u.recent(found); err != nil {
				u.old = found
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		u.unanswered = errors.As(err, new(noAnswer))
		u.log.printf("unchanged: no: %v", err)
		return nil
	}
	u.take(p, found)
	return nil
}

// take makes the image of a record that of the plan.
func (u *unchanged) take(p *plan.Plan, found *inputs.Record) {
	u.log.printf("unchanged: %s was built from the same inputs by %s, %s ago: taken as it is", found.Image, found.By, since(found.Built))
	for _, note := range u.derived.Network() {
		u.log.printf("%s:%s reaches the network, and what it would bring today is not known: the params skip-unchanged and unchanged-ttl have it built anew", u.source.name, note.String())
	}
	p.Unchanged = &plan.Unchanged{Digest: found.Image, Built: found.Built, By: found.By}
}

// inputs is the record of this build, without its image. It is made once, before
// the toolchain adds to the plan what does not decide the image.
func (u *unchanged) inputs(ctx context.Context, p *plan.Plan, buildArgs []string) (*inputs.Record, error) {
	if u.now != nil {
		return u.now, nil
	}
	image, _, err := u.repositories()
	if err != nil {
		return nil, err
	}
	started := time.Now()
	list, err := u.list(ctx, p, image, buildArgs)
	if err != nil {
		return nil, err
	}
	u.now = inputs.New(list)
	u.log.printf("inputs: %s, %d in %.2f s", u.now.Inputs[:12], len(list), time.Since(started).Seconds())
	return u.now, nil
}

// repositories are that of the image and that of the records.
func (u *unchanged) repositories() (image, records name.Repository, err error) {
	ref, err := name.NewTag(u.config.Image)
	if err != nil {
		return image, records, fmt.Errorf("param image: %w", err)
	}
	if u.config.UnchangedRepository == "" {
		return ref.Repository, ref.Repository, nil
	}
	if records, err = name.NewRepository(u.config.UnchangedRepository); err != nil {
		return image, records, fmt.Errorf("param unchanged-repository: %w", err)
	}
	return ref.Repository, records, nil
}

// list is everything declared that decides the image. Not in it is what does
// not: the caches and the proxy of modules, which go.sum holds to their
// content, how registries are reached, and the times and owners of files.
func (u *unchanged) list(ctx context.Context, p *plan.Plan, image name.Repository, buildArgs []string) (inputs.List, error) {
	written, derived := u.derived.Needed()
	list := inputs.List{
		{Kind: inputs.Dockerfile, Value: string(written)},
		{Kind: inputs.Derived, Value: string(derived)},
		{Kind: inputs.GoFlags, Value: u.config.GoFlags},
		{Kind: inputs.Kaniko, Value: u.config.KanikoImage},
		{Kind: inputs.Platform, Value: u.host.Platform},
		{Kind: inputs.Repository, Value: image.Name()},
		{Kind: inputs.Option, Name: "reproducible", Value: fmt.Sprint(p.Reproducible)},
	}
	operations, err := operation.Encode(u.converted.Operations)
	if err != nil {
		return nil, err
	}
	list = append(list, inputs.Input{Kind: inputs.Operations, Value: operations}, inputs.Input{Kind: inputs.Config, Value: string(u.converted.config)})
	values := map[string]string{} // of an arg that is given twice the last counts
	for _, arg := range buildArgs {
		if name, value, _ := strings.Cut(arg, "="); u.derived.Takes(name) {
			values[name] = value
		}
	}
	for name, value := range values {
		list = append(list, inputs.Input{Kind: inputs.BuildArg, Name: name, Value: value})
	}
	deciding := kaniko.Deciding(p.Args)
	if p.Recompress {
		// How kaniko compresses is nothing that the image shows.
		delete(deciding, "compression")
		delete(deciding, "compression-level")
		if p.Compression != "" {
			deciding["compression-level"] = []string{p.Compression}
		}
	}
	for name, values := range deciding {
		list = append(list, inputs.Input{Kind: inputs.Option, Name: "--" + name, Value: fmt.Sprintf("%q", values)})
	}
	for name, value := range p.Env {
		list = append(list, inputs.Input{Kind: inputs.Option, Name: name, Value: value})
	}
	bases := map[string]string{}
	for _, base := range u.bases.found {
		bases[base.image] += " " + base.digest.String() // of several platforms, perhaps
	}
	for image, digests := range bases {
		list = append(list, inputs.Input{Kind: inputs.Base, Name: image, Value: digests})
	}

	var files inputs.List
	secrets := make(inputs.List, len(u.derived.Secrets))
	hashing, ctx := errgroup.WithContext(ctx)
	hashing.Go(func() (err error) {
		files, err = u.files(ctx)
		return err
	})
	hashing.Go(func() error { // one after the other: each takes memory
		for i, id := range u.derived.Secrets {
			content, err := os.ReadFile(u.secrets[id])
			if err == nil {
				secrets[i], err = inputs.OfSecret(image.Name(), id, content)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := hashing.Wait(); err != nil {
		return nil, err
	}
	program, err := u.program()
	if err != nil {
		return nil, err
	}
	return append(append(append(list, program), files...), secrets...), nil
}

// files are what the Dockerfile takes of the build context.
func (u *unchanged) files(ctx context.Context) (inputs.List, error) {
	return inputs.Context{Files: u.source.context, Paths: u.derived.ContextPaths()}.List(ctx)
}

// noAnswer is an error of a registry that did not say what it has.
type noAnswer struct{ error }

func answer(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, registry.ErrForeign) {
		return err
	}
	return noAnswer{err}
}

// patiently bounds what a registry is asked.
func patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, askFor, fmt.Errorf("the registry took over %s", askFor))
}

// ask begins to look up a record. wait is for the answer, forget for whoever
// does not want it any more.
func (u *unchanged) ask(ctx context.Context, tag name.Tag) (wait func() (*inputs.Record, error), forget func()) {
	ctx, cancel := patiently(ctx)
	wait = step.Begin(func() (*inputs.Record, error) { return u.record(ctx, tag) })
	return wait, func() {
		cancel()
		_, _ = wait()
	}
}

func (u *unchanged) record(ctx context.Context, tag name.Tag) (*inputs.Record, error) {
	content, err := u.client.Artifact(ctx, tag, inputs.MediaType)
	if err != nil {
		return nil, answer(err)
	}
	record, err := inputs.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	return record, nil
}

// holds makes sure that a record is of these inputs, and names an image that is
// there.
func (u *unchanged) holds(ctx context.Context, found, now *inputs.Record, image name.Repository) error {
	if found.Inputs != now.Inputs {
		return fmt.Errorf("the record under %s is of other inputs, %.12s", inputs.Tag(image, now.Inputs).TagStr(), found.Inputs)
	}
	_, err := u.client.Existing(ctx, image.Digest(found.Image))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s was built from the same inputs, but %s has it no more", found.Image, image)
	}
	return answer(err)
}

// recent is an error if a record is too old.
func (u *unchanged) recent(found *inputs.Record) error {
	if ttl := u.config.UnchangedTTL; ttl > 0 && time.Since(found.Built) > ttl {
		return fmt.Errorf("%s was built from the same inputs, but %s ago: the param unchanged-ttl says %s", found.Image, since(found.Built), ttl)
	}
	return nil
}

// maxTold is how many changes are named.
const maxTold = 5

// changed says what is not as it was at the last build, as far as that is
// known.
func changed(lastRecord func() (*inputs.Record, error), now *inputs.Record) error {
	last, err := lastRecord()
	if err != nil {
		return errors.New("nothing is known to have been built from these inputs")
	}
	parts := now.Changed(last)
	if more := len(parts) - maxTold; more > 0 {
		parts = append(parts[:maxTold], fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("changed since the build of %s, %s ago: %s", last.By, since(last.Built), strings.Join(parts, "; "))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }
