package gocache_test

import (
	"testing"

	"github.com/slipway-ci/slipway/internal/gocache"
)

func TestHowMuchStays(t *testing.T) {
	t.Parallel()
	const mb, gb = 1_000_000, 1_000_000_000
	type volume struct{ total, free, files, freeFiles int64 }
	roomy := volume{100 * gb, 80 * gb, 1_000_000, 900_000}
	for name, c := range map[string]struct {
		size        int64
		bytes       int64
		files       int64
		on          volume
		over        bool
		stay, least int64 // bytes at most, and at least
	}{
		"within the budget":                     {size: 10 * gb, bytes: 8 * gb, on: roomy},
		"above nine tenths of it":               {size: 10 * gb, bytes: 9*gb + 1, on: roomy, over: true, stay: 7 * gb, least: 7*gb - 1},
		"no budget, room enough":                {bytes: 15 * gb, on: roomy},
		"no budget, the tenth is at risk":       {bytes: 90 * gb, on: volume{100 * gb, 5 * gb, 0, 0}, over: true, stay: 60 * gb, least: 59 * gb},
		"others have the tenth, modest caches":  {size: 10 * gb, bytes: 600 * mb, on: volume{250 * gb, 20 * gb, 0, 0}},
		"others have the tenth, large caches":   {size: 10 * gb, bytes: 5 * gb, on: volume{250 * gb, 10 * gb, 0, 0}, over: true, stay: 1600 * mb, least: 1400 * mb},
		"too little is left for any to be used": {bytes: 600 * mb, on: volume{250 * gb, 100 * mb, 0, 0}, over: true, stay: 200 * mb, least: 0},
		"a small budget on a full volume":       {size: 2 * mb, bytes: 3 * mb, on: volume{250 * gb, 1 * gb, 0, 0}, over: true, stay: 1400_000, least: 1300_000},
		"files run out":                         {bytes: 1 * gb, files: 900_000, on: volume{100 * gb, 80 * gb, 1_000_000, 50_000}, over: true, stay: 70 * gb, least: 0},
		"others have most files":                {bytes: 1 * gb, files: 20_000, on: volume{100 * gb, 80 * gb, 1_000_000, 60_000}},
	} {
		stay, files, over := gocache.Excess(c.size, c.bytes, c.files, c.on.total, c.on.free, c.on.files, c.on.freeFiles)
		if over != c.over || over && (stay > c.stay || stay < c.least) {
			t.Errorf("%s: %d bytes and %d files stay, too much is there: %t", name, stay, files, over)
		}
		if c.files > 0 && over && files >= c.files {
			t.Errorf("%s: %d files stay of %d", name, files, c.files)
		}
	}
}
