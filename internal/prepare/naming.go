package prepare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-ci/slipway/internal/artifact"
	"github.com/slipway-ci/slipway/internal/git"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/tag"
)

// naming is what the image is called, and what templates can say of it.
type naming struct {
	config    *Config
	source    tag.Source
	variables tag.Variables // of the param tags
	clone     *git.Repository
}

// newNaming reads nothing yet: what a template or a policy does not ask for is
// not looked at. Close it.
func newNaming(c *Config, host Host) (*naming, error) {
	n := &naming{config: c}
	n.source = tag.Source{
		Started: host.Started,
		Git:     n.git,
		InputDigest: func() (string, error) {
			return "", errors.New("it is not known until everything that decides the image is: name it in the param tags alone")
		},
	}
	var err error
	if n.variables, err = tag.TemplateValues(c.TemplateValues, &n.source); err != nil {
		return nil, step.BadInput(fmt.Errorf("param template-values: %w", err))
	}
	return n, nil
}

func (n *naming) git() (tag.Git, error) {
	if n.clone == nil {
		var err error
		if n.clone, err = git.Open(n.config.Source, n.config.Context); err != nil {
			return nil, fmt.Errorf("workspace source: %w", err)
		}
	}
	return n.clone, nil
}

func (n *naming) close() {
	if n.clone != nil {
		_ = n.clone.Close()
	}
}

// destinations are all places that the image goes to.
func (n *naming) destinations() (tags []string, all []tag.Destination, err error) {
	tags, err = tag.Tags(n.config.Image, n.config.Tags, n.source, n.variables)
	if err != nil {
		return nil, nil, step.BadInput(fmt.Errorf("param tags: %w", err))
	}
	all, err = tag.Destinations(n.config.Image, tags, n.config.Destinations)
	return tags, all, step.BadInput(err)
}

// expand expands the templates of the params that are not about tags.
func (n *naming) expand() error {
	variables := n.variables.With(tag.Repository(n.config.Image)).With(tag.Variables{
		"IMAGE_TAG": func() (string, error) {
			_, all, err := n.destinations()
			if err != nil {
				return "", err
			}
			return all[0].Tag.TagStr(), nil
		},
	})
	if err := expandValues("kaniko-env", n.config.KanikoEnv, variables); err != nil {
		return err
	}
	if err := expandValues("labels", n.config.Labels, variables); err != nil {
		return err
	}
	// Again, as a template can make what none of its parts was.
	if err := checkKanikoEnv(n.config.KanikoEnv); err != nil {
		return step.BadInput(fmt.Errorf("param kaniko-env: %w", err))
	}
	if err := checkLabels(n.config.Labels); err != nil {
		return step.BadInput(fmt.Errorf("param labels: %w", err))
	}
	// As in skaffold, build args can name what kaniko's environment has.
	for _, entry := range n.config.KanikoEnv {
		key, value, _ := strings.Cut(entry, "=")
		variables = variables.With(tag.Variables{key: tag.Literal(value)})
	}
	return expandValues("build-args", n.config.BuildArgs, variables)
}

// expandValues expands the values of KEY=VALUE in place.
func expandValues(param string, entries []string, variables tag.Variables) error {
	for i, entry := range entries {
		key, value, _ := strings.Cut(entry, "=")
		expanded, err := tag.Expand(value, variables)
		if err != nil {
			return step.BadInput(fmt.Errorf("param %s: %s: %w", param, key, err))
		}
		entries[i] = key + "=" + expanded
	}
	return nil
}

// decide completes the plan with the tags that the param tags comes to. A tag
// that must not move and is taken is an error before anything is built for it.
func (n *naming) decide(ctx context.Context, client *registry.Client, unchanged *unchanged, p *plan.Plan, log *log) error {
	tags, all, err := n.destinations()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if bytes, err := n.inResults(all); err != nil || bytes > step.MaxNames {
		return step.BadInput(cmp.Or(err, fmt.Errorf("params tags and destinations: the image's names have %d bytes in the results image-urls, IMAGE_URL, IMAGE_DIGEST and deploy-image, over the %d that a step may write; use fewer", bytes, step.MaxNames)))
	}
	if len(all) > 1 || len(n.config.Tags) > 0 {
		for _, destination := range all {
			log.printf("image: %s", destination.URL)
		}
	}
	fixed, err := tag.Immutable(all, n.config.ImmutableTags)
	if err != nil {
		return step.BadInput(fmt.Errorf("param immutable-tags: %w", err))
	}
	p.Tags = tags
	if !n.config.Push {
		return nil
	}
	return mustBeFree(ctx, client, fixed, unchanged, p, log)
}

// inResults is how many bytes the results of the step push have that name the
// image.
func (n *naming) inResults(all []tag.Destination) (int, error) {
	one, err := artifact.Parse(n.config.Artifact)
	if err != nil {
		return 0, err
	}
	const digest = len("sha256:") + 64
	url := len(all[0].URL)
	return len(tag.URLs(all)) + url + digest + len(one.Name+"=") + url + len("@") + digest, nil
}

// mustBeFree refuses what the step push, which asks again, would have to
// refuse. Where it is known which image that will be, its own tags are no
// others'.
func mustBeFree(ctx context.Context, client *registry.Client, fixed []name.Tag, unchanged *unchanged, p *plan.Plan, log *log) error {
	if old := unchanged.old; old != nil {
		for _, tag := range fixed {
			// An error is one below, too.
			if found, err := client.Names(ctx, tag); err == nil && found.String() == old.Image {
				log.printf("unchanged: but %s is that image already, and must not move", tag)
				unchanged.take(p, old)
				break
			}
		}
	}
	var digest *v1.Hash
	if p.Unchanged != nil {
		hash, err := v1.NewHash(p.Unchanged.Digest)
		if err != nil {
			return err
		}
		digest = &hash
	}
	err := client.MustBeFree(ctx, fixed, digest)
	if errors.Is(err, registry.ErrTaken) && unchanged.unanswered && p.Reproducible {
		log.printf("%v; as it may be this very image, and the registry does not say what was built from these inputs, it is built, and the step push asks again", err)
		return nil
	}
	if errors.Is(err, registry.ErrRejected) {
		err = step.BadInput(err)
	}
	return err
}
