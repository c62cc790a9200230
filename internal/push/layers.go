package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-ci/slipway/internal/layercache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// pushFor bounds the time that the layer cache may take.
const pushFor = 2 * time.Minute

// pushLayers keeps the layers that kaniko has made. A problem with that is told
// and no reason to fail: the image is there.
func pushLayers(ctx context.Context, registry layercache.Registry, p *plan.Plan, stderr io.Writer) {
	layers := p.Layers
	if layers == nil {
		return
	}
	index, err := name.NewTag(layers.Index)
	if err != nil {
		fmt.Fprintf(stderr, "layer cache: %v\n", err)
		return
	}
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, pushFor, fmt.Errorf("the registry took over %s", pushFor))
	defer cancel()
	made, err := layercache.Push(ctx, registry, index, layers.Folder, layers.Pulled, usedLayers(layers.Used), kept(p), layers.TTL, started)
	if err != nil {
		fmt.Fprintf(stderr, "layer cache: not all of it is kept: %v\n", err)
	}
	fmt.Fprintf(stderr, "layer cache: %d layers used, %d new (%s) in %.1f s\n",
		made.Kept, made.New, units.HumanSize(float64(made.Bytes)), time.Since(started).Seconds())
}

// kept reads a new layer of kaniko's, if the plan wants an entry for it. The
// instruction that made it is in its history.
func kept(p *plan.Plan) func(dir string) (v1.Image, error) {
	return func(dir string) (v1.Image, error) {
		img, err := built(dir)
		if err != nil {
			return nil, err
		}
		config, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		if len(config.History) != 1 {
			return img, nil
		}
		text, ok := strings.CutPrefix(strings.TrimSpace(config.History[0].CreatedBy), "RUN ")
		if !ok {
			return img, nil
		}
		run, known := runOf(p, text)
		wanted := p.Layers.Run
		if known && run.Copies {
			wanted = p.Layers.Copy && !run.Keeps
		}
		if !wanted {
			return nil, layercache.ErrNotKept
		}
		return img, nil
	}
}

// runOf finds the instruction that kaniko's words after RUN belong to.
func runOf(p *plan.Plan, text string) (plan.Run, bool) {
	for _, run := range p.Runs {
		if text == run.As || strings.HasSuffix(text, " "+run.As) {
			return run, true
		}
	}
	return plan.Run{}, false
}

// usedLayers are the keys in the file; nil where that is not known. A RUN may
// have put something else in its place.
func usedLayers(path string) map[string]bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxManifest {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var keys []string
	if json.Unmarshal(content, &keys) != nil {
		return nil
	}
	used := map[string]bool{}
	for _, key := range keys {
		used[key] = true
	}
	return used
}
