package dockerfile

import (
	"fmt"
	"slices"
)

// dropCacheMounts removes the cache mounts that would stand in for the kept
// module cache, or for a folder of it. kaniko's are empty in each build, and it
// mounts one by moving what is there: our link with an empty folder in its
// place, or what is kept itself (v1.27.5, pkg/commands/run.go, swapDir).
//
// A mount above the module cache keeps other files too, out of the image: in
// the target and what it is FROM it stays, and hides the module cache.
func (d *derivation) dropCacheMounts() {
	kept := d.options.ModCache
	if kept == "" {
		return
	}
	for _, n := range d.needed() {
		n.places = slices.DeleteFunc(n.places, func(p place) bool {
			in, above := within(p.full, kept), p.full != "/" && within(kept, p.full)
			switch {
			case p.role != bound || p.mount.options["type"] != "cache" || !in && !above || p.in.isForeign:
				return false
			case !in && n.final:
				d.noted = append(d.noted, Note{p.in.line, fmt.Sprintf("RUN mounts a cache at %s: it hides the kept module cache, and starts empty in each build", p.full)})
				return false
			}
			d.remove(p.in, p.mount.flag, "the kept module cache is there")
			return true
		})
	}
}
