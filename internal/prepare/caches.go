package prepare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/slipway-ci/slipway/internal/gocache"
)

const (
	// minFree is how much room a cache needs to be of use. A volume that fills
	// up fails a build where it holds modules; a cache that is left alone only
	// slows it down.
	minFree = 256 << 20

	// measureFor bounds the time for telling how much a cache holds.
	measureFor = 100 * time.Millisecond
)

// caches are the folders that a build's caches are in: on the cache volume, or
// where that has a problem, folders of this run, so that everything else about
// the build stays the same.
type caches struct {
	goBuild string
	goMod   string
	bases   gocache.BaseImages

	kept bool // the bases outlive the run
}

// openCaches never fails for the cache volume's sake.
func openCaches(ctx context.Context, c *Config, log *log) (*caches, error) {
	var opened caches
	var err error
	if c.Cache == "" {
		log.printf("caches: no workspace cache is bound, so this build starts with none")
	}
	if opened.goBuild, _, err = openCache(c.Cache, filepath.Join(c.Built, "cache"), gocache.GoBuild, log); err != nil {
		return nil, err
	}
	if opened.goMod, _, err = openCache(c.Cache, filepath.Join(c.Built, "cache"), gocache.GoMod, log); err != nil {
		return nil, err
	}
	bases, kept, err := openCache(c.Cache, c.Prepared, gocache.Bases, log)
	if err != nil {
		return nil, err
	}
	opened.bases, opened.kept = gocache.BaseImages(bases), kept
	if c.Cache != "" {
		held := make([]string, 2)
		var measures sync.WaitGroup
		for i, dir := range []string{opened.goBuild, opened.goMod} {
			measures.Go(func() {
				held[i] = fmt.Sprintf("%s %s", filepath.Base(dir), gocache.Measure(ctx, dir, measureFor))
			})
		}
		measures.Wait()
		if free, err := gocache.Free(c.Cache); err == nil {
			held = append(held, units.HumanSize(float64(free))+" free")
		}
		log.printf("caches: %s", strings.Join(held, ", "))
	}
	return &opened, nil
}

// share makes sure that RUN instructions of users other than root can use the
// caches; line is where the first such user comes in. To read what root made is
// not enough: go commands fail where a folder of the module cache is root's, and
// when they cannot note the day of trimming in the build cache.
func (opened *caches) share(c *Config, dockerfile string, line int, log *log) error {
	if line == 0 {
		return nil
	}
	for _, cache := range []struct {
		name gocache.Name
		dir  *string
	}{{gocache.GoBuild, &opened.goBuild}, {gocache.GoMod, &opened.goMod}} {
		if gocache.Shared(*cache.dir) {
			continue
		}
		log.printf("cache %s is not used by this build: %s:%d: the volume has no access control lists, so this user could not add to what root made", cache.name, dockerfile, line)
		var err error
		if *cache.dir, _, err = openCache("", filepath.Join(c.Built, "cache"), cache.name, log); err != nil {
			return err
		}
	}
	return nil
}

// openCache opens one cache on the volume, or one of this run in fallback.
// kept says which.
func openCache(volume, fallback string, name gocache.Name, log *log) (dir string, kept bool, err error) {
	if volume != "" {
		dir, err := gocache.Open(volume, name, minFree)
		if err == nil {
			return dir, true, nil
		}
		log.printf("cache %s is not used by this build: %v", name, err)
	}
	if err := os.MkdirAll(fallback, 0o777); err != nil {
		return "", false, fmt.Errorf("make room for %s: %w", name, err)
	}
	dir, err = gocache.Open(fallback, name, 0)
	if err != nil {
		return "", false, fmt.Errorf("make room for %s: %w", name, err)
	}
	return dir, false, nil
}
