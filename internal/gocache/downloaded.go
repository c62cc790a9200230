package gocache

import (
	"os"
	"path/filepath"
	"time"
)

// Downloaded counts the modules whose archives came into a GOMODCACHE since
// then, by any build.
func Downloaded(goMod string, since time.Time) (int, error) {
	if _, err := os.Stat(goMod); err != nil {
		return 0, err
	}
	count := 0
	for _, m := range modulesIn(goMod) {
		archive := filepath.Join(m.download(), m.version+".zip")
		if info, err := os.Lstat(archive); err == nil && !info.ModTime().Before(since) {
			count++
		}
	}
	return count, nil
}
