package gocache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// isObject says whether a file of GOCACHE is one that go commands look for:
// what an action yielded ("-a") or that itself ("-d"). Each counts as used at
// its modification time, which Go renews once an hour (cmd/go/internal/cache,
// markUsed).
func isObject(name string) bool {
	return strings.HasSuffix(name, "-a") || strings.HasSuffix(name, "-d")
}

// carryObjects links what was used since then to another GOCACHE, of shards
// that changed after a time. It may have been cut off before, at any place: an
// action without what it yielded is one that Go does anew.
func carryObjects(from, to string, since, changed time.Time) error {
	for _, shard := range shards() {
		dir := filepath.Join(from, shard)
		if info, err := os.Lstat(dir); err == nil && info.ModTime().Before(changed) {
			continue
		}
		objects, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, object := range objects {
			info, err := object.Info()
			if err != nil || !isObject(object.Name()) || info.ModTime().Before(since) {
				continue
			}
			// A folder has one executable.
			if err := linkTree(filepath.Join(dir, object.Name()), filepath.Join(to, shard, object.Name())); err != nil {
				return err
			}
		}
	}
	// Without it Go would look at every file on its next use.
	const day = "trim.txt"
	content, err := os.ReadFile(filepath.Join(from, day))
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	return os.WriteFile(filepath.Join(to, day), content, 0o666)
}

// setObjectWriters says of what was written since then whose it is.
func setObjectWriters(goBuild, repository string, since time.Time) {
	for _, shard := range shards() {
		dir := filepath.Join(goBuild, shard)
		if info, err := os.Lstat(dir); err != nil || info.ModTime().Before(since) {
			continue
		}
		objects, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, object := range objects {
			if info, err := object.Info(); err == nil && !info.ModTime().Before(since) {
				SetWriter(filepath.Join(dir, object.Name()), repository)
			}
		}
	}
}
