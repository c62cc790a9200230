package kaniko

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// tidyFor is how much longer a build may take for the sake of later ones, and
// only where there is much to tidy.
const tidyFor = time.Second

// caches is what the build step has to do with the cache volume: nobody removes
// what the build uses, and beside it the volume is tidied.
type caches struct {
	*plan.Cache
	held    []*gocache.Held
	mark    *gocache.Unfinished // nil where the build writes to no GOMODCACHE of the volume
	tidying *gocache.Tidying
	stderr  io.Writer
}

// holdCaches takes over from prepare; nil if there is no volume.
func holdCaches(c *plan.Cache, stderr io.Writer) *caches {
	if c == nil {
		return nil
	}
	caches := &caches{Cache: c, stderr: stderr}
	for _, dir := range c.Holds {
		held, err := gocache.Hold(dir)
		if errors.Is(err, fs.ErrNotExist) && (dir == c.GoBuild || dir == c.GoMod) {
			// The lease was over. Go commands need the folder, even an empty one.
			fmt.Fprintf(stderr, "caches: %s was removed, as this step has begun so late after prepare: the build starts with an empty one\n", dir)
			if err = errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777)); err == nil {
				held, err = gocache.Hold(dir)
			}
		}
		if err != nil && !errors.Is(err, gocache.ErrNoLocks) {
			fmt.Fprintf(stderr, "caches: %v\n", err)
		}
		if err == nil {
			caches.held = append(caches.held, held)
		}
	}
	for _, lease := range c.Leases {
		if !slices.ContainsFunc(caches.held, func(held *gocache.Held) bool { return held.Path() == filepath.Dir(lease) }) {
			continue // it is all that the build has
		}
		if err := os.Remove(lease); err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(stderr, "caches: %v\n", err)
		}
	}
	if c.GoMod != "" {
		var err error
		if caches.mark, err = gocache.MarkUnfinished(c.GoMod, c.Repository); err != nil {
			fmt.Fprintf(stderr, "caches: %v\n", err)
		}
	}
	caches.tidying = gocache.Tidy(gocache.Budget{
		Volume: c.Volume, Toolchains: c.Toolchains, Size: c.Size, Repository: c.Repository, GoBuild: c.GoBuild, GoMod: c.GoMod,
	})
	return caches
}

// full says whether the volume has become so full under the build that a go
// command may have failed for it. Then caches of this run take the place of the
// volume's, for the build to be started again: what a go command writes there
// while it runs is the one thing about a cache that could fail a build.
func (caches *caches) full(p *plan.Plan) bool {
	if caches == nil || caches.GoBuild == "" && caches.GoMod == "" {
		return false
	}
	problem := gocache.Room(caches.Volume, gocache.MinFree)
	if problem == nil {
		return false
	}
	fmt.Fprintf(caches.stderr, "caches: %v, which may be why a go command failed: the build starts again without those of the volume; give it more room, or the param cache-size less\n", problem)
	parent := filepath.Join(filepath.Dir(p.Layout), "cache")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		fmt.Fprintf(caches.stderr, "caches: %v\n", err)
		return false
	}
	for i := range p.Links {
		link := &p.Links[i]
		name, ok := map[string]gocache.Name{caches.GoBuild: gocache.GoBuild, caches.GoMod: gocache.GoMod}[link.Target]
		if !ok {
			continue
		}
		own, err := gocache.Open(parent, name, 0)
		if err == nil && name == gocache.GoMod {
			// Private ones are nowhere else for a go command without a login.
			err = gocache.LinkDownloads(caches.GoMod, own)
		}
		if err == nil {
			link.Target = own
			err = errors.Join(os.Remove(link.Path), makeLink(*link))
		}
		if err != nil {
			fmt.Fprintf(caches.stderr, "caches: %v\n", err)
			return false
		}
	}
	return true
}

// kept says for a person what a failed build leaves to the next; "" for nothing.
func (caches *caches) kept(p *plan.Plan, account *account) string {
	if account == nil {
		return ""
	}
	count, ok, err := account.close()
	if err != nil || !ok || count.Compiled == 0 || caches == nil || !caches.KeepsCompiled ||
		!slices.ContainsFunc(p.Links, func(link plan.Link) bool { return link.Target == caches.GoBuild }) {
		return ""
	}
	return fmt.Sprintf("; compiled so far and kept for the next build: %d packages", count.Compiled)
}

// end lets go of the caches, and says how they are, unless the build failed:
// then others have the last word. Nothing of it fails the build.
func (caches *caches) end(ctx context.Context, failed error) {
	if caches == nil {
		return
	}
	if err := caches.mark.End(failed != nil && ctx.Err() == nil); err != nil {
		fmt.Fprintf(caches.stderr, "caches: %v\n", err)
	}
	for _, held := range caches.held {
		if err := held.Release(); err != nil {
			fmt.Fprintf(caches.stderr, "caches: %v\n", err)
		}
	}
	if ctx.Err() != nil {
		return // whoever stopped the build does not want to wait
	}
	said, err := caches.tidying.End(tidyFor)
	if failed != nil {
		return
	}
	if err != nil {
		fmt.Fprintf(caches.stderr, "caches: %v; the next build tries again\n", err)
	} else if said != "" {
		fmt.Fprintln(caches.stderr, said)
	}
}
