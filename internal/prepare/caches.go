package prepare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/modules"
	"github.com/slipway-ci/slipway/internal/plan"
)

// caches are the folders that a build's caches are in: on the cache volume, or
// where that has a problem, folders of this run, so that everything else about
// the build stays the same.
type caches struct {
	volume  string // "" where none is bound
	goBuild goCache
	goMod   goCache
	bases   gocache.BaseImages

	kept bool // the bases outlive the run
	held []heldEntry
	log  *log

	repository string // whose build it is
}

// goCache is one of Go's caches.
type goCache struct {
	name gocache.Name
	dir  string
	held *gocache.Held // nil where it is this run's
}

// openCaches never fails for the cache volume's sake.
func openCaches(c *Config, log *log) (*caches, error) {
	opened := &caches{volume: c.Cache, log: log, repository: c.repository()}
	opened.goBuild.name, opened.goMod.name = gocache.GoBuild, gocache.GoMod
	if c.Cache == "" {
		log.printf("caches: no workspace cache is bound, so this build starts with none")
		log.unused = append(log.unused, "no workspace cache is bound")
	} else if removed, err := gocache.Trim(c.Cache, gocache.MinFree); err != nil {
		log.printf("caches: removing old base images and toolchains: %v", err)
	} else if removed > 0 {
		log.printf("caches: removed %d base images and toolchains that no build has used for long", removed)
	}
	for _, cache := range []*goCache{&opened.goBuild, &opened.goMod} {
		if c.Cache != "" {
			held, err := gocache.OpenHeld(c.Cache, cache.name, gocache.MinFree)
			if err == nil {
				cache.dir, cache.held = held.Path(), held
				continue
			}
			log.notUsed(cache.name, "%v", err)
		}
		if err := cache.useOwn(c); err != nil {
			return nil, err
		}
	}
	if c.Cache != "" {
		dir, err := gocache.Open(c.Cache, gocache.Bases, gocache.MinFree)
		if err == nil {
			opened.bases, opened.kept = gocache.BaseImages(dir), true
		} else {
			log.notUsed(gocache.Bases, "%v", err)
		}
		if usage := gocache.ReadUsage(c.Cache); len(usage.Parts) > 0 {
			log.printf("caches: %s", usage)
		}
	}
	if !opened.kept {
		dir, err := ownCache(c.Prepared, gocache.Bases)
		if err != nil {
			return nil, err
		}
		opened.bases = gocache.BaseImages(dir)
	}
	return opened, nil
}

// heldEntry is a base image or a toolchain that the build uses.
type heldEntry struct {
	*gocache.Held
	seen string // where the build step sees it
}

// hold keeps an entry of the volume from being removed while the build lasts;
// seen is where the build step sees it. Where that cannot be, its recent use
// must do.
func (opened *caches) hold(entry, seen string) {
	if slices.ContainsFunc(opened.held, func(held heldEntry) bool { return held.seen == seen }) {
		return
	}
	gocache.SetWriter(entry, opened.repository)
	if held, err := gocache.Hold(entry); err == nil {
		opened.held = append(opened.held, heldEntry{held, seen})
	}
}

// release ends what is left to end if the build goes no further.
func (opened *caches) release() error {
	err := errors.Join(opened.goBuild.held.Release(), opened.goMod.held.Release())
	for _, held := range opened.held {
		err = errors.Join(err, held.Release())
	}
	return err
}

// handOver is what the build step needs to know of the volume. From now on it
// has the time of a lease to start.
func (opened *caches) handOver(c *Config) *plan.Cache {
	if opened.volume == "" {
		return nil
	}
	handed := &plan.Cache{Volume: opened.volume, Toolchains: c.Toolchains, Size: c.CacheSize.Value(), Repository: opened.repository}
	for _, cache := range []struct {
		*goCache
		dir *string
	}{{&opened.goBuild, &handed.GoBuild}, {&opened.goMod, &handed.GoMod}} {
		if cache.held == nil {
			continue
		}
		*cache.dir = cache.held.Path()
		handed.Holds = append(handed.Holds, cache.held.Path())
		lease, err := cache.held.Lease()
		if err != nil {
			opened.log.printf("cache %s: %v", cache.name, err)
			continue
		}
		handed.Leases = append(handed.Leases, lease)
	}
	for _, held := range opened.held {
		if err := held.Touch(); err != nil {
			opened.log.printf("caches: %v", err)
		}
		handed.Holds = append(handed.Holds, held.seen)
	}
	return handed
}

// useModules counts as a use of the modules that the source names. Where the
// volume has another content of one, or a part of it, a go command would end
// with an error: then it is taken away, or this build has a module cache of its own.
func (opened *caches) useModules(c *Config, source *source) error {
	if opened.goMod.held == nil {
		return nil
	}
	var sums []gocache.Sum
	for _, m := range modules.Private("*", source.goSums(opened.log)...) {
		sums = append(sums, gocache.Sum{Version: m.Version, Files: m.Sum, Mod: m.ModSum})
	}
	damages, removed := gocache.UseModules(opened.goMod.held, sums, opened.repository)
	switch {
	case len(damages) == 0:
		return nil
	case removed:
		opened.log.printf("cache %s: %s: %v, %d such modules are removed from it", opened.goMod.name, damages[0].Path, damages[0].Problem, len(damages))
		return nil
	}
	opened.log.notUsed(opened.goMod.name, "%s: %v, and other builds use it", damages[0].Path, damages[0].Problem)
	return opened.goMod.useOwn(c)
}

// share makes sure that RUN instructions of users other than root can use the
// caches; line is where the first such user comes in, a USER's or that of a FROM
// whose image has one. To read what root made is not enough: go commands fail
// where a folder of the module cache is root's, and when they cannot note the
// day of trimming in the build cache.
func (opened *caches) share(c *Config, dockerfile string, line int, log *log) error {
	if line == 0 {
		return nil
	}
	for _, cache := range []*goCache{&opened.goBuild, &opened.goMod} {
		if gocache.Shared(cache.dir) {
			continue
		}
		log.notUsed(cache.name, "%s:%d: the volume has no access control lists, so this user could not add to what root made", dockerfile, line)
		if err := cache.useOwn(c); err != nil {
			return err
		}
	}
	return nil
}

// leave makes the cache one of this run in what was decided already, too.
func (cache *goCache) leave(c *Config, p *plan.Plan, why error, log *log) error {
	log.notUsed(cache.name, "%v", why)
	left := cache.dir
	if err := cache.useOwn(c); err != nil {
		return err
	}
	for i := range p.Links {
		if p.Links[i].Target == left {
			p.Links[i].Target = cache.dir
		}
	}
	if p.Modules == left {
		p.Modules = cache.dir
	}
	return nil
}

// useOwn makes the cache one of this run, and gives back the volume's.
func (cache *goCache) useOwn(c *Config) error {
	released := cache.held.Release()
	cache.held = nil
	var err error
	cache.dir, err = ownCache(filepath.Join(c.Built, "cache"), cache.name)
	return errors.Join(released, err)
}

// ownCache makes a cache in a folder of this run.
func ownCache(parent string, name gocache.Name) (string, error) {
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return "", fmt.Errorf("make room for %s: %w", name, err)
	}
	dir, err := gocache.Open(parent, name, 0)
	if err != nil {
		return "", fmt.Errorf("make room for %s: %w", name, err)
	}
	return dir, nil
}
