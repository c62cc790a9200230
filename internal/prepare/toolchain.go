package prepare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// Where Go looks for settings that are neither in the environment nor the
// user's: in its own folder. They hold for every user and HOME.
const goEnv = gocache.GoRoot + "/go.env"

// toolchain decides where a build's Go comes from, and where its settings go.
// Each way gives the same image: what is kept apart is used only where no
// instruction can tell.
type toolchain struct {
	config  *Config
	host    Host
	name    string // the Dockerfile's
	derived *dockerfile.Derived
	bases   *bases
	caches  *caches
	store   gocache.Toolchains // "" where the volume cannot be used
	log     *log
	looks   map[v1.Hash]func() (*gocache.Toolchain, error)
}

// look begins to find out what is known of a base image, and whether its
// toolchain is as it was kept. That takes a while.
func (t *toolchain) look(ctx context.Context, digest v1.Hash) {
	if t.store == "" || t.looks[digest] != nil {
		return
	}
	if t.looks == nil {
		t.looks = map[v1.Hash]func() (*gocache.Toolchain, error){}
	}
	t.looks[digest] = step.Begin(func() (*gocache.Toolchain, error) { return t.store.Look(ctx, digest) })
}

// wait is for the end of all looks.
func (t *toolchain) wait() {
	for _, found := range t.looks {
		_, _ = found()
	}
}

// use completes the plan with the toolchain and the settings. The base images
// are there when it returns. A problem with what is kept is told; only base
// images that cannot be had are an error.
func (t *toolchain) use(ctx context.Context, p *plan.Plan, settings map[string]string) error {
	known, err := t.recall(ctx)
	if err != nil {
		return err
	}
	leftOut := map[v1.Hash]bool{}
	if err := t.bases.fetch(ctx, func(digest v1.Hash) bool {
		leftOut[digest] = t.lean(digest, known)
		return leftOut[digest]
	}); err != nil {
		return err
	}
	image, found, why := t.find(ctx, known)
	if why != "" {
		// It is not there any more that they were left out for.
		if err := t.bases.fetch(ctx, func(digest v1.Hash) bool { return !leftOut[digest] }); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if why == "" {
		t.caches.hold(filepath.Join(string(t.store), image.digest.String()), filepath.Join(t.config.Toolchains, image.digest.String()))
		p.Toolchain = &plan.Toolchain{Path: gocache.GoRoot, Tree: gocache.Toolchains(t.config.Toolchains).Tree(image.digest)}
		if err := t.leaveOut(image); err != nil {
			return err
		}
		t.log.printf("toolchain: Go of %s comes from the cache", image.image)
	} else {
		p.NoToolchain = why
		t.log.printf("toolchain: Go is not from the cache: %s", why)
	}
	t.place(p, found, settings)
	return nil
}

// place puts the settings where Go reads them last: into the go.env that it
// has since 1.21, or else into root's own file. That file has them as well where
// no instruction can tell: a Go that is not the base's has a go.env of its own,
// be it one that GOTOOLCHAIN or golang.org/dl downloads or one of apk's.
func (t *toolchain) place(p *plan.Plan, found *gocache.Toolchain, settings map[string]string) {
	inGo := found != nil && found.Env != ""
	if t.derived.Modules != nil && t.config.GoProxy == "" {
		env := ""
		if inGo {
			env = found.Env
		}
		t.keptFirst(env, settings)
	}
	switch {
	case p.Toolchain != nil:
		p.Ignore(gocache.GoRoot)
	case inGo:
		p.Ignore(goEnv)
	}
	if inGo {
		p.Files = append(p.Files, plan.File{Path: goEnv, Content: replaced(found.Env, settings)})
		if t.derived.NamesGoEnv() || t.derived.ReachesFile(goUserEnv) != nil {
			if note := t.derived.OtherGo(); note != nil {
				t.log.printf("%s:%s: the caches are found by the base image's Go alone, as the settings are in its go.env file", t.name, note)
			}
			return
		}
	}
	p.Ignore(goUserConfig)
	if note := t.derived.CopiesTo(goUserConfig); note != nil {
		t.log.printf("%s:%s: that is where Go's settings are for this build: kaniko drops folders that are copied there, and nothing there is in the image", t.name, note)
	}
	p.Files = append(p.Files, plan.File{Path: goUserEnv, Content: lines(settings)})
	if line := t.derived.OtherUser(); line > 0 {
		t.log.printf("%s:%d: go commands of this user do not find the caches, as the settings are in root's go/env file", t.name, line)
	}
}

// open is the volume's folder of toolchains.
func (t *toolchain) open() gocache.Toolchains {
	if t.config.Cache == "" {
		return ""
	}
	dir, err := gocache.Open(t.config.Cache, gocache.GoRoots, gocache.MinFree)
	if err != nil {
		t.log.notUsed(gocache.GoRoots, "%v", err)
		return ""
	}
	return gocache.Toolchains(dir)
}

// recall is what is known of the base images already.
func (t *toolchain) recall(ctx context.Context) (map[v1.Hash]*gocache.Toolchain, error) {
	known := map[v1.Hash]*gocache.Toolchain{}
	if t.store == "" {
		return known, nil
	}
	for _, base := range t.bases.found {
		found, err := t.looks[base.digest]()
		if errors.Is(err, fs.ErrNotExist) {
			found, err = t.store.Look(ctx, base.digest) // another build may have kept it meanwhile
		}
		if err == nil {
			err = t.store.Use(base.digest)
		}
		switch {
		case err == nil:
			known[base.digest] = found
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.Is(err, fs.ErrNotExist):
			t.log.printf("toolchain of %s: what the cache has is not used: %v", base.image, err)
		}
	}
	return known, nil
}

// wanted says why the cache's toolchain is not to be used, whatever the base
// images have; "" if it is.
func (t *toolchain) wanted() string {
	switch {
	case !t.config.ToolchainCache:
		return "the param toolchain-cache says so"
	case t.config.Cache == "":
		return "no workspace cache is bound"
	case t.store == "":
		return "the volume cannot be used, see above"
	case t.config.Toolchains == "":
		return "no workspace toolchains is bound: bind it to the folder toolchains of the workspace cache"
	}
	if note := t.derived.Reaches(gocache.GoRoot); note != nil {
		return t.name + ":" + note.String()
	}
	return ""
}

// lean says whether a base image's own layers are not needed: no stage of the
// target's image is built on it, and its toolchain is used.
func (t *toolchain) lean(digest v1.Hash, known map[v1.Hash]*gocache.Toolchain) bool {
	if found := known[digest]; found == nil || !found.Kept {
		return false
	}
	for _, base := range t.bases.found {
		if found := known[base.digest]; base.digest != digest && (found == nil || found.Go) {
			return false // it may be a second Go
		}
	}
	return t.wanted() == "" && t.visible(digest) == "" && !t.final(digest)
}

func (t *toolchain) final(digest v1.Hash) bool {
	return slices.ContainsFunc(t.derived.Bases, func(base dockerfile.Base) bool {
		return base.Final && strings.HasSuffix(base.Ref, "@"+digest.String())
	})
}

// find is the one base image with Go and what is known of it; why says why its
// toolchain is not used, "" if it is. Where it returns nothing known, the
// settings cannot be in go.env.
func (t *toolchain) find(ctx context.Context, known map[v1.Hash]*gocache.Toolchain) (image *base, found *gocache.Toolchain, why string) {
	why = t.wanted()
	if note := t.derived.ReachesFile(goEnv); note != nil {
		return nil, nil, cmp.Or(why, t.name+":"+note.String())
	}
	if t.store == "" && t.derived.Modules == nil && !t.derived.NamesGoEnv() {
		// The other place for settings is as good then, and looking would take
		// a while in each build.
		return nil, nil, why
	}
	for _, base := range t.bases.found {
		here, err := t.inspect(ctx, base, known, why == "")
		if err != nil {
			return nil, nil, fmt.Sprintf("base image %s: %v", base.image, err)
		}
		switch {
		case !here.Go || image != nil && image.digest == base.digest:
		case here.Problem != "":
			return nil, nil, here.Problem
		case image == nil:
			image, found = base, here
		case found.Env != here.Env:
			return nil, nil, fmt.Sprintf("%s and %s both have one", image.image, base.image)
		default:
			why = fmt.Sprintf("%s and %s both have one", image.image, base.image)
		}
	}
	switch {
	case image == nil && why == "":
		why = "no base image has one at " + gocache.GoRoot
	case why != "":
	case !found.Kept:
		why = "it could not be kept, see above"
	default:
		why = t.visible(image.digest)
	}
	return image, found, why
}

// inspect finds out about a base image, and keeps its toolchain if that is wanted.
func (t *toolchain) inspect(ctx context.Context, base *base, known map[v1.Hash]*gocache.Toolchain, keep bool) (*gocache.Toolchain, error) {
	found := known[base.digest]
	if found != nil && (!keep || found.Kept || !found.Go || found.Problem != "") {
		return found, nil
	}
	img, err := t.bases.inUse.Image(base.digest)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if found == nil && (!keep || t.store == "") {
		if found, err = gocache.Inspect(ctx, img); err != nil {
			return nil, err
		}
		if t.store != "" {
			if err := t.store.Remember(ctx, base.digest, found); err != nil {
				t.log.printf("toolchain of %s: %v", base.image, err)
			}
		}
		known[base.digest] = found
		return found, nil
	}
	if found, err = t.store.Keep(ctx, img); err != nil && ctx.Err() == nil {
		t.log.printf("toolchain of %s: not kept: %v", base.image, err)
		return gocache.Inspect(ctx, img)
	} else if err != nil {
		return nil, err
	}
	known[base.digest] = found
	if found.Kept {
		t.log.printf("toolchain of %s: kept for later builds in %.1f s", base.image, time.Since(started).Seconds())
	}
	return found, nil
}

// visible says why the kaniko step cannot read the kept toolchain where it
// cannot write it; "" if it can.
func (t *toolchain) visible(digest v1.Hash) string {
	ours, err := os.Stat(t.store.Tree(digest))
	if err != nil {
		return err.Error()
	}
	theirs, err := os.Stat(gocache.Toolchains(t.config.Toolchains).Tree(digest))
	if err != nil || !os.SameFile(ours, theirs) {
		return "the workspace toolchains is not the folder toolchains of the workspace cache: bind both to one claim, this one with the other's subPath and /toolchains"
	}
	if !slices.Contains(t.host.ReadOnly, t.config.Toolchains) {
		return "the workspace toolchains is not mounted read-only"
	}
	return ""
}

// leaveOut gives kaniko the image without its toolchain. Where its layers
// become the target's, it needs them as they are.
func (t *toolchain) leaveOut(image *base) error {
	if t.final(image.digest) {
		return nil
	}
	entry := t.bases.inUse.Path(image.digest)
	if err := os.RemoveAll(entry); err != nil {
		return err
	}
	return os.Symlink(gocache.Toolchains(t.config.Toolchains).Base(image.digest), entry)
}

// replaced is a go.env with other settings: of two lines for a name Go takes
// the first.
func replaced(env string, settings map[string]string) string {
	left := maps.Clone(settings)
	var text strings.Builder
	for line := range strings.Lines(env) {
		name, _, _ := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if value, ok := left[name]; ok {
			line = name + "=" + value + "\n"
			delete(left, name)
		} else if _, ok := settings[name]; ok {
			continue
		}
		text.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	return text.String() + lines(left)
}
