package dockerfile

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/slipway-ci/slipway/internal/step"
)

// ImageConfig is what an image's configuration brings into a stage that is FROM it.
type ImageConfig struct {
	Env        []string // "NAME=value"
	WorkingDir string   // absolute; "" is the root
	User       string   // name or number, a group may follow a colon; "" is root
	OnBuild    []string // instructions, run as the stage's first
}

// imageKey is an image as Pin is asked for it.
type imageKey struct{ image, platform string }

func (d *derivation) imageKey(image, platform string) imageKey {
	if platform == "" {
		platform = d.options.Platform
	}
	return imageKey{image, platform}
}

// pinned is the reference to build from for an image.
func (d *derivation) pinned(image, platform string) (string, error) {
	return d.pins[d.imageKey(image, platform)]()
}

// askForPins begins to ask for all images at once, as each may be far away. An
// error is for the instruction that names the image.
func (d *derivation) askForPins(ctx context.Context) {
	d.pins = map[imageKey]func() (string, error){}
	ask := func(image, platform string) {
		key := d.imageKey(image, platform)
		if d.pins[key] != nil {
			return
		}
		d.pins[key] = step.Begin(func() (string, error) {
			ref, err := d.options.Pin(ctx, key.image, key.platform)
			if err == nil && !pinnable.MatchString(ref) {
				err = fmt.Errorf("pinned to %q, which is no image reference", ref)
			}
			return ref, err
		})
	}
	for _, n := range d.needed() {
		if n.parent == none && n.base != scratch {
			ask(n.base, n.platform)
		}
		for _, i := range n.program {
			for _, from := range d.readImages(n, i) {
				ask(from.image, "")
			}
		}
	}
}

// readBases learns what the images of the stages bring along. Before this, only
// the Dockerfile itself decides.
func (d *derivation) readBases(ctx context.Context) error {
	for _, n := range d.needed() {
		if n.parent != none || n.base == scratch {
			continue
		}
		ref, err := d.pinned(n.base, n.platform)
		if err == nil && d.options.Config != nil {
			n.image, err = d.options.Config(ctx, ref)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: base image %s: %w", d.file.name, n.from.line, n.base, err)
		}
		if n.image == nil {
			continue
		}
		var triggers []*instruction
		for _, text := range n.image.OnBuild {
			trigger, err := d.file.foreign(text, n.from.line)
			if err != nil {
				return d.file.errorAt(n.from.line, fmt.Sprintf("base image %s: its ONBUILD %q: %v", n.base, text, err), "use another base image")
			}
			triggers = append(triggers, trigger)
		}
		n.program = append(triggers, n.program...)
	}
	return nil
}

// foreign is an instruction that a base image brings along. It is read like the
// Dockerfile's own, but it has no place there, and cannot be edited; line is
// that of the FROM.
func (f *File) foreign(text string, line int) (*instruction, error) {
	result, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	node := result.AST.Children[0]
	i, err := f.instruction(node, newSource([]byte(text), result.EscapeToken).join(node.StartLine))
	if err != nil {
		return nil, err
	}
	i.line, i.end, i.isForeign = line, line, true
	return i, nil
}

// baseEnv is what the stage's image sets, by name.
func (n *node) baseEnv() map[string]string {
	env := map[string]string{}
	if n.image != nil {
		for _, pair := range n.image.Env {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
	}
	return env
}
