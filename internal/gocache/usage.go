package gocache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/step"
)

// usageFile keeps what was measured, for the next build to measure only what
// has changed. It is no loss when it is gone.
const usageFile = "usage.json"

// Usage is what a volume's caches hold.
type Usage struct {
	// Parts are what is measured one at a time, by its path on the volume: a
	// shard of GOCACHE, a version of a module, a base image, a toolchain. Of
	// Go's caches only the current generation counts: others are about to go.
	Parts map[string]Part `json:"parts"`
	// Kept is since when something must have been used to be kept, the last
	// time that there was too much.
	Kept time.Time `json:"kept,omitzero"`
}

// Part is what a part holds.
type Part struct {
	Mark  string `json:"mark"`            // another one tells that it was changed
	Bytes int64  `json:"bytes,omitempty"` // that it takes of the volume
	Files int64  `json:"files,omitempty"`
	// By divides the bytes among the repositories whose builds wrote them, as
	// far as that is known.
	By map[string]int64 `json:"by,omitempty"`
}

func (p *Part) add(other Part) {
	p.Bytes += other.Bytes
	p.Files += other.Files
	for repository, bytes := range other.By {
		if p.By == nil {
			p.By = map[string]int64{}
		}
		p.By[repository] += bytes
	}
}

// ReadUsage is what was measured last.
func ReadUsage(volume string) Usage {
	var u Usage
	// What does not look right is measured again.
	info, err := os.Lstat(filepath.Join(volume, usageFile))
	if err == nil && info.Mode().IsRegular() && info.Size() < 64<<20 {
		if content, err := os.ReadFile(filepath.Join(volume, usageFile)); err != nil || json.Unmarshal(content, &u) != nil {
			u = Usage{}
		}
	}
	// Every RUN instruction can write the file: all that there is would be too
	// old for a time that is to come.
	if !u.Kept.IsZero() && u.Kept.After(Time(volume)) {
		u.Kept = time.Time{}
	}
	if u.Parts == nil {
		u.Parts = map[string]Part{}
	}
	return u
}

func (u Usage) write(volume string) error {
	content, err := json.Marshal(u)
	if err != nil {
		return err
	}
	file := filepath.Join(volume, usageFile)
	if info, err := os.Lstat(file); err == nil && info.IsDir() {
		aside, err := os.MkdirTemp(volume, usageFile+asideSuffix)
		if err == nil {
			err = os.Rename(file, filepath.Join(aside, usageFile))
		}
		if err != nil {
			return err
		}
	}
	return step.WriteFile(file, content, 0o644)
}

// of is what one cache holds, or all of them with "".
func (u Usage) of(name Name) Part {
	var sum Part
	for path, part := range u.Parts {
		top, _, _ := strings.Cut(path, "/")
		if _, ok := generationOf(top, name); ok || name == "" {
			sum.add(part)
		}
	}
	return sum
}

// Bytes is what all caches hold.
func (u Usage) Bytes() int64 { return u.of("").Bytes }

// String lists the caches: "go-build 1.2GB, go-mod 95MB".
func (u Usage) String() string {
	var parts []string
	for _, name := range []Name{GoBuild, GoMod, Bases, GoRoots} {
		part := u.of(name)
		size := "empty"
		if part.Files > 0 {
			size = units.HumanSize(float64(part.Bytes))
		}
		parts = append(parts, fmt.Sprintf("%s %s", name, size))
	}
	return strings.Join(parts, ", ")
}

// ByRepository lists who wrote it, the most first: "registry/app 1.1GB". It is
// "" where the file system cannot keep that.
func (u Usage) ByRepository() string {
	const most = 5
	by := u.of("").By
	repositories := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		if by[a] != by[b] {
			return int(min(max(by[b]-by[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	var parts []string
	var others int64
	for i, repository := range repositories {
		if i < most {
			parts = append(parts, repository+" "+units.HumanSize(float64(by[repository])))
		} else {
			others += by[repository]
		}
	}
	if others > 0 {
		parts = append(parts, fmt.Sprintf("%d others %s", len(repositories)-most, units.HumanSize(float64(others))))
	}
	return strings.Join(parts, ", ")
}

// measure looks at what the caches hold, and only at parts that have another
// mark than in u. Toolchains are where this process sees them; with "" it does
// not, and what is known of them stays.
func (u Usage) measure(volume, toolchains string) (Usage, error) {
	now := Usage{Parts: map[string]Part{}, Kept: u.Kept}
	// What has no writer by itself is made of what has.
	add := func(path, mark, writer string, paths ...string) {
		part, known := u.Parts[path]
		if !known || part.Mark != mark {
			part = Part{Mark: mark}
			for _, path := range paths {
				part.add(takenBy(path))
			}
			if writer != "" {
				part.By = map[string]int64{writer: part.Bytes}
			}
		}
		now.Parts[path] = part
	}
	goBuild, err := current(volume, GoBuild)
	if err != nil {
		return now, err
	}
	for _, shard := range shards() {
		dir := filepath.Join(goBuild, shard)
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			add(filepath.Base(goBuild)+"/"+shard, mark(info), "", dir)
		}
	}
	goMod, err := current(volume, GoMod)
	if err != nil {
		return now, err
	}
	for _, m := range modulesIn(goMod) {
		add(filepath.Base(goMod)+"/"+m.name(), m.mark(), m.writer(), m.paths()...)
	}
	// What git fetches there changes no time of the folder itself.
	if taken := takenBy(filepath.Join(goMod, filepath.FromSlash(clones))); taken.Files > 0 {
		now.Parts[filepath.Base(goMod)+"/"+clones] = taken
	}
	for name, dir := range map[Name]string{Bases: filepath.Join(volume, string(Bases)), GoRoots: toolchains} {
		if dir == "" {
			for path, part := range u.Parts {
				if strings.HasPrefix(path, string(name)+"/") {
					now.Parts[path] = part
				}
			}
			continue
		}
		found, err := entries(dir).list()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return now, err
		}
		for _, entry := range found {
			// Its time is that of its last use, and nothing is added to it.
			path := filepath.Join(dir, entry.Name())
			add(string(name)+"/"+entry.Name(), inode(entry), writer(path), path)
		}
	}
	return now, nil
}

func mark(info fs.FileInfo) string {
	return fmt.Sprintf("%s %d", inode(info), info.ModTime().UnixNano())
}

func inode(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprint(stat.Ino)
	}
	return ""
}

// takenBy is what path and all below it take. What cannot be read counts as
// nothing: others may be writing and removing.
func takenBy(path string) Part {
	var sum Part
	_ = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		bytes := onDisk(info)
		sum.add(Part{Bytes: bytes, Files: 1})
		if repository := writer(path); repository != "" {
			sum.add(Part{By: map[string]int64{repository: bytes}})
		}
		return nil
	})
	return sum
}

// onDisk is what a file takes of its volume: the small ones of GOCACHE take a
// block each.
func onDisk(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512
	}
	return info.Size()
}

// writerAttribute names the repository whose build wrote a file, on the file:
// so it is gone with it, and stays with it where that gets another name.
const writerAttribute = "user.slipway.repository"

func writer(path string) string {
	value := make([]byte, 255)
	n, err := unix.Lgetxattr(path, writerAttribute, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}

// SetWriter says that path was written by a build of repository, unless it was
// another's before. Not all file systems can.
func SetWriter(path, repository string) {
	if repository != "" && len(repository) <= 255 {
		_ = unix.Lsetxattr(path, writerAttribute, []byte(repository), unix.XATTR_CREATE)
	}
}
