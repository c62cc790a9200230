package gocache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/sys/unix"
)

// modVersion is a version of a module in GOMODCACHE, in cmd/go's layout
// (https://go.dev/ref/mod#module-cache): files below cache/download, and the
// files of the module itself where some build needed them. Paths are escaped.
type modVersion struct {
	root    string // GOMODCACHE
	path    string
	version string
	files   []string // names in download()
}

func (m *modVersion) name() string { return m.path + "@" + m.version }
func (m *modVersion) download() string {
	return filepath.Join(m.root, "cache", "download", filepath.FromSlash(m.path), "@v")
}
func (m *modVersion) tree() string {
	return filepath.Join(m.root, filepath.FromSlash(m.path)+"@"+m.version)
}

// paths are everything that the version consists of.
func (m *modVersion) paths() []string {
	paths := []string{m.tree()}
	for _, file := range m.files {
		paths = append(paths, filepath.Join(m.download(), file))
	}
	return paths
}

// parts are what has to go with the version, and what the next generation has of
// it by now, in an order that may be cut off anywhere: Go believes files that are
// there when it writes the hash, and an archive without one is never downloaded
// again, so the hash goes after both. The next generation's go first, as nothing
// tells of them once these here are gone, and again after these, which may have
// been linked there meanwhile.
func (m *modVersion) parts() []string {
	var parts []string
	for _, root := range []string{nextOf(m.root), m.root, nextOf(m.root)} {
		whole := modVersion{root: root, path: m.path, version: m.version}
		parts = append(parts, whole.tree())
		for _, kind := range []string{".zip", ".ziphash", ".mod", ".info"} {
			parts = append(parts, filepath.Join(whole.download(), m.version+kind))
		}
	}
	return parts
}

// mark tells versions with more or other content apart.
func (m *modVersion) mark() string {
	tree := ""
	if info, err := os.Lstat(m.tree()); err == nil {
		tree = mark(info)
	}
	return fmt.Sprintf("%d %s", len(m.files), tree)
}

// used is when a build last had use for the version: Go changes no times, so
// builds touch what their go.sum files name ([UseModules]).
func (m *modVersion) used() time.Time {
	var last time.Time
	for _, file := range m.files {
		if info, err := os.Lstat(filepath.Join(m.download(), file)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// whole says whether the module's files are all there: Go makes a mark before
// it extracts them, and removes it when it has (cmd/go/internal/modfetch,
// unzip).
func (m *modVersion) whole() bool {
	if _, err := os.Lstat(m.tree()); err != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(m.download(), m.version+".partial"))
	return errors.Is(err, fs.ErrNotExist)
}

// modulesIn are the versions that a GOMODCACHE has.
func modulesIn(root string) []*modVersion {
	var found []*modVersion
	downloads := filepath.Join(root, "cache", "download")
	_ = filepath.WalkDir(downloads, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil: // others may be writing and removing
			return nil //nolint:nilerr // see above
		case path == filepath.Join(downloads, sumDB):
			return fs.SkipDir
		case !entry.IsDir() || entry.Name() != "@v":
			return nil
		}
		module, err := filepath.Rel(downloads, filepath.Dir(path))
		if err != nil {
			return fs.SkipDir
		}
		found = append(found, versionsIn(root, filepath.ToSlash(module), path)...)
		return fs.SkipDir
	})
	return found
}

// sumDB is the checksum database's folder in the downloads.
const sumDB = "sumdb"

// clones are the repositories of modules that came without a proxy.
const clones = "cache/vcs"

// kinds are the files of a version, in the order in which they are believed:
// the hash after the file that it is of.
var kinds = []string{".info", ".mod", ".zip", ".ziphash"}

func versionsIn(root, path, dir string) []*modVersion {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	byVersion := map[string]*modVersion{}
	var found []*modVersion
	for _, kind := range kinds {
		for _, entry := range entries {
			version, ok := strings.CutSuffix(entry.Name(), kind)
			if !ok || !entry.Type().IsRegular() {
				continue
			}
			m := byVersion[version]
			if m == nil {
				m = &modVersion{root: root, path: path, version: version}
				byVersion[version] = m
				found = append(found, m)
			}
			m.files = append(m.files, entry.Name())
		}
	}
	return found
}

// Sum is what a go.sum file says of a module: its hash, and that of its go.mod;
// "" where it says none.
type Sum struct {
	module.Version
	Files, Mod string
}

// UseModules counts as a use of the modules that go.sum files name, for a build
// of a repository, and returns those that would fail it: of which the GOMODCACHE
// held has something else, or, where earlier builds give reason to look, only a
// part.
//
// It takes those away if nobody else uses the cache. It may be the go.sum that
// is wrong, and then others' builds go well with what is there.
func UseModules(held *Held, sums []Sum, repository string) (damages []Damage, removed bool) {
	doubts := doubtsOf(held.path, repository)
	var others []*modVersion
	damage := func(m *modVersion, problem error) {
		damages, others = append(damages, Damage{m.name(), problem}), append(others, m)
	}
	seen := map[string]bool{}
	read := func(m *modVersion) {
		if err := m.check(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			damage(m, err)
		}
	}
	for _, sum := range sums {
		m, err := modVersionOf(held.path, sum.Version)
		if err != nil {
			continue
		}
		mod := filepath.Join(m.download(), m.version+".mod")
		// What any version has that a go.sum names. If it is not there, or
		// another's to touch, the module goes earlier than it could.
		_ = touch(mod)
		if m.hasOther(sum, mod) {
			damage(m, errors.New("it has another hash than go.sum says"))
		} else if doubts.own {
			read(m)
		}
		seen[m.name()] = true
	}
	for _, m := range doubts.written(held.path) {
		if !doubts.own || !seen[m.name()] {
			read(m)
		}
	}
	if len(others) == 0 {
		doubts.settle()
		return nil, false
	}
	removed = held.alone(func() error {
		for _, m := range others {
			for _, path := range m.parts() {
				if err := discard(filepath.Dir(held.path), path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
		return nil
	})
	if removed {
		doubts.settle()
	}
	return damages, removed
}

func modVersionOf(root string, v module.Version) (*modVersion, error) {
	path, err := module.EscapePath(v.Path)
	if err != nil {
		return nil, err
	}
	version, err := module.EscapeVersion(v.Version)
	if err != nil {
		return nil, err
	}
	return &modVersion{root: root, path: path, version: version}, nil
}

// hasOther says whether the cache has the version with other content.
func (m *modVersion) hasOther(sum Sum, mod string) bool {
	hash, err := os.ReadFile(filepath.Join(m.download(), m.version+".ziphash"))
	switch {
	case sum.Files == "":
	case err == nil && string(hash) != sum.Files:
		return true
	case errors.Is(err, fs.ErrNotExist) && m.unvouched(sum.Files) != nil:
		return true
	}
	if sum.Mod == "" {
		return false
	}
	got, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return os.Open(mod) })
	return err == nil && got != sum.Mod
}

// linkMarks makes the marks of builds those of another GOMODCACHE too: it has
// what they are about. The lock of one that lasts is the file's.
func linkMarks(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, unfinishedPrefix) || strings.HasPrefix(name, failedPrefix) {
			err = errors.Join(err, link(filepath.Join(from, name), filepath.Join(to, name)))
		}
	}
	return err
}

// LinkDownloads lets another GOMODCACHE have the downloads of one that takes no
// more: go commands read them where they are, and extract them there.
func LinkDownloads(from, to string) error {
	for _, m := range modulesIn(from) {
		files := m.files
		if hash, err := os.ReadFile(filepath.Join(m.download(), m.version+".ziphash")); err != nil || !strings.HasPrefix(string(hash), "h1:") {
			// Go would write to it, and to what it is of.
			files = slices.DeleteFunc(slices.Clone(files), func(file string) bool { return strings.HasPrefix(strings.TrimPrefix(file, m.version), ".zip") })
		}
		there := &modVersion{root: to, path: m.path, version: m.version}
		if err := makeLike(m.download(), there.download(), m.root, to); err != nil {
			return err
		}
		for _, file := range files {
			if err := os.Symlink(filepath.Join(m.download(), file), filepath.Join(there.download(), file)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}

// carryModules links the versions that were used since then to another
// GOMODCACHE. It may have been cut off before, at any place.
func carryModules(from, to string, since time.Time) error {
	for _, m := range modulesIn(from) {
		if m.used().Before(since) {
			continue
		}
		if err := m.carry(to); err != nil {
			return err
		}
	}
	// Small, and each file is as good as any other build's.
	return linkTree(filepath.Join(from, "cache", "download", sumDB), filepath.Join(to, "cache", "download", sumDB))
}

func (m *modVersion) carry(to string) error {
	there := &modVersion{root: to, path: m.path, version: m.version}
	if err := makeLike(m.download(), there.download(), m.root, to); err != nil {
		return err
	}
	for _, file := range m.files {
		if err := link(filepath.Join(m.download(), file), filepath.Join(there.download(), file)); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(there.tree()); err == nil || !m.whole() {
		return nil
	}
	if err := makeLike(filepath.Dir(m.tree()), filepath.Dir(there.tree()), m.root, to); err != nil {
		return err
	}
	// Go takes a folder that is there for a whole one.
	part := filepath.Join(to, "cache", "carried")
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(part), 0o777); err != nil {
		return err
	}
	before := m.mark()
	if err := linkTree(m.tree(), part); err != nil {
		return err
	}
	if m.mark() != before {
		return nil // it was taken away meanwhile, and is there in part
	}
	if err := os.Rename(part, there.tree()); err != nil {
		return err
	}
	if m.mark() != before {
		// Whoever took it away may have looked here before that.
		return discard(filepath.Dir(to), there.tree())
	}
	return nil
}

// makeLike makes the folder to as from is, and those above it down from a root.
func makeLike(from, to, fromRoot, toRoot string) error {
	if to == toRoot || from == fromRoot {
		return nil
	}
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	if err := makeLike(filepath.Dir(from), filepath.Dir(to), fromRoot, toRoot); err != nil {
		return err
	}
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(to, info.Mode())
}

// linkTree makes to the same files and folders as from; folders that must not
// be written stay so. What is not there is no error.
func linkTree(from, to string) error {
	var dirs []string
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		target := to + path[len(from):]
		if !entry.IsDir() {
			return link(path, target)
		}
		dirs = append(dirs, path)
		return os.MkdirAll(target, 0o777)
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		info, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		target := to + dir[len(from):]
		if err := errors.Join(os.Chmod(target, info.Mode()), os.Chtimes(target, info.ModTime(), info.ModTime())); err != nil {
			return err
		}
	}
	return nil
}

// hardLink is link(2); a variable for tests of what others do meanwhile.
var hardLink = os.Link

// link makes to another name of the file from. That it is there already, or
// that from was removed by now, is no error.
func link(from, to string) error {
	err := hardLink(from, to)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOENT) && gone(from) {
		return nil
	}
	return err
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// versionOf finds a version by its name; nil if it is gone.
func versionOf(root, name string) *modVersion {
	path, version, _ := strings.Cut(name, "@")
	m := &modVersion{root: root, path: path, version: version}
	for _, kind := range kinds {
		if _, err := os.Lstat(filepath.Join(m.download(), version+kind)); err == nil {
			m.files = append(m.files, version+kind)
		}
	}
	if len(m.files) == 0 {
		return nil
	}
	return m
}

// setModuleWriters says of what was written since then whose it is.
func setModuleWriters(goMod, repository string, since time.Time) {
	for _, m := range modulesIn(goMod) {
		file := filepath.Join(m.download(), m.files[0])
		if info, err := os.Lstat(file); err == nil && !info.ModTime().Before(since) {
			SetWriter(file, repository)
		}
	}
}

// writer is whose build the version is from.
func (m *modVersion) writer() string { return writer(filepath.Join(m.download(), m.files[0])) }
