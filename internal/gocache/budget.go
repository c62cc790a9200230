package gocache

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MinFree is how much room on its volume a cache needs to be of use, in bytes.
// A volume that fills up fails a build where it holds modules; a cache that is
// left alone only slows it down.
const MinFree = 256 << 20

// Where trimming starts, and how far it goes, in parts of what the caches may
// hold. The builds that are running come on top until the next time, and what
// was trimmed does not come back at once.
const (
	trimAbove = 0.9
	trimTo    = 0.7
)

// What the caches may hold where others have filled the volume: about what one
// large app and its Go take. A cache that is emptied in each build would cost
// time and give none, and is not what fills a volume.
const (
	modestBytes = 2 << 30
	modestFiles = 50_000
)

// limits are how much the caches may hold: no more than size (0 for as much as
// there is), and not so much that less than a tenth of the volume is left. Where
// others have taken of that tenth, the caches may still be modest, as long as
// there is enough left for them to be used.
func limits(size int64, held Part, s space) (bytes, files int64) {
	bytes = limit(held.Bytes, s.free, s.total, 2*MinFree, modestBytes)
	if size > 0 {
		bytes = min(bytes, size)
	}
	return bytes, limit(held.Files, s.freeFiles, s.files, 2*minFreeFiles, modestFiles)
}

func limit(held, free, total, needed, modest int64) int64 {
	within := held + free - max(total/10, needed)
	return max(within, min(modest, held+free-needed), 0)
}

// excess says whether there is so much that something has to go, and how much
// may stay then.
func excess(size int64, held Part, s space) (stay Part, over bool) {
	bytes, files := limits(size, held, s)
	stay = Part{Bytes: int64(trimTo * float64(bytes)), Files: held.Files}
	over = float64(held.Bytes) > trimAbove*float64(bytes)
	if s.files > 0 && float64(held.Files) > trimAbove*float64(files) {
		stay.Files, over = int64(trimTo*float64(files)), true
	}
	return stay, over
}

// item is what stays or goes as a whole.
type item struct {
	used  time.Time
	bytes int64
	files int64
}

// items are everything that caches hold. Where toolchains are not seen, they
// are not among it.
func (u Usage) items(volume, toolchains string) ([]item, error) {
	var all []item
	for path, part := range u.Parts {
		top, rest, _ := strings.Cut(path, "/")
		full := filepath.Join(volume, filepath.FromSlash(path))
		if _, ok := generationOf(top, GoBuild); ok {
			objects, err := os.ReadDir(full)
			if err != nil {
				return nil, err
			}
			for _, object := range objects {
				info, err := object.Info()
				if err != nil || !isObject(object.Name()) {
					continue
				}
				taken := Part{Bytes: onDisk(info), Files: 1}
				if info.IsDir() { // of one executable
					taken = takenBy(filepath.Join(full, object.Name()))
				}
				all = append(all, item{info.ModTime(), taken.Bytes, taken.Files})
			}
		} else if rest == clones {
			// No generation takes it over from the one before.
			all = append(all, item{time.Time{}, part.Bytes, part.Files})
		} else if _, ok := generationOf(top, GoMod); !ok {
			if top == string(GoRoots) {
				full = filepath.Join(toolchains, rest)
			}
			if info, err := os.Lstat(full); err == nil {
				all = append(all, item{info.ModTime(), part.Bytes, part.Files})
			}
		} else if m := versionOf(filepath.Join(volume, top), rest); m != nil {
			all = append(all, item{m.used(), part.Bytes, part.Files})
		}
	}
	return all, nil
}

// keptSince is since when things must have been used so that they are no more
// than stay, those that were used last, and how many bytes go then.
func keptSince(all []item, stay Part) (since time.Time, gone int64) {
	slices.SortFunc(all, func(a, b item) int { return b.used.Compare(a.used) })
	var sum Part
	for _, one := range all {
		sum.Bytes += one.bytes
		sum.Files += one.files
		if since.IsZero() && (sum.Bytes > stay.Bytes || sum.Files > stay.Files) {
			since = one.used.Add(time.Nanosecond)
		}
		if one.used.Before(since) {
			gone += one.bytes
		}
	}
	return since, gone
}
