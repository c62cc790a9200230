package generate

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
)

// transfer is a COPY or an ADD, with its variables and quotes resolved.
type transfer struct {
	from     *tree
	stage    *stage // that it is from, or nil
	sources  []string
	docs     []string // names of heredocs
	dest     string   // absolute; a slash at its end means a folder
	uid, gid int
	mode     uint32 // 0 where there is no --chmod in figures
	chown    bool
	named    bool // the owner's name is to be looked up
	link     bool
	parents  bool
	unpack   bool
	exclude  []string
}

// apply does to t what BuildKit would do, or says why it would not.
func (x transfer) apply(t *tree) error {
	to := t
	if x.link {
		to = newTree()
		if x.named {
			return errIndex
		}
	}
	for _, source := range x.sources {
		var err error
		if x.parents {
			err = x.copyParents(to, source)
		} else {
			err = x.copyMatches(to, source)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range x.docs {
		if err := x.copyOne(to, &node{kind: Regular, mode: 0o644}, name); err != nil {
			return err
		}
	}
	if x.link {
		t.root.overlay(to.root)
	}
	return nil
}

// overlay puts a layer above n: its files replace what was there before.
func (n *node) overlay(upper *node) {
	for _, name := range upper.names() {
		up, low := upper.kids[name], n.kids[name]
		if low == nil || low.kind != Folder || up.kind != Folder {
			n.kids[name] = up
			continue
		}
		low.mode, low.uid, low.gid, low.base = up.mode, up.uid, up.gid, false
		low.overlay(up)
	}
}

// copyMatches copies what a source names: one file, or all that match a pattern, of
// which there may be none.
func (x transfer) copyMatches(to *tree, source string) error {
	matches := []string{source}
	if hasPattern(source) {
		var err error
		if matches, err = x.from.matches(source); err != nil {
			return err
		}
		// Of the context BuildKit fetches what matches: where nothing does, not even
		// the folder that was to be looked into is there.
		if len(matches) == 0 && x.stage == nil && !hasPattern(split(source)[0]) {
			return errNone
		}
	}
	for _, m := range matches {
		n := x.from.get(m)
		if n == nil {
			return errNone
		}
		if x.unpack && n.kind == Regular && n.archive != nil && n.archive.Plain == "" {
			if err := x.extract(to, n.archive); err != nil {
				return err
			}
			continue
		}
		if err := x.copyOne(to, n, path.Base(m)); err != nil {
			return err
		}
	}
	return nil
}

func (x transfer) copyOne(to *tree, n *node, name string) error {
	above := x.dest
	if !strings.HasSuffix(x.dest, "/") {
		above = path.Dir(x.dest)
	}
	if err := to.mkdirAll(above, x.dirMode(), x.uid, x.gid); err != nil {
		return err
	}
	dest, there, err := to.resolve(x.dest, true)
	if err != nil {
		return err
	}
	if n.kind == Folder {
		if len(x.exclude) > 0 && hasDangling(n) {
			return errNone // BuildKit looks for what each link in it leads to
		}
		if err := to.mkdirAll(dest, x.dirMode(), x.uid, x.gid); err != nil {
			return err
		}
		return x.merge(to.get(dest), n, "")
	}
	if there != nil && there.kind == Folder {
		dest = path.Join(dest, name)
	}
	if err := to.mkdirAll(path.Dir(dest), x.dirMode(), x.uid, x.gid); err != nil {
		return err
	}
	if old := to.lget(dest); old != nil && old.kind == Folder {
		return errFile
	}
	return to.put(dest, x.own(n))
}

func (x transfer) dirMode() uint32 {
	if x.mode != 0 {
		return x.mode
	}
	return 0o755
}

// own is a copy of n with the owner and mode that it gets.
func (x transfer) own(n *node) *node {
	copied := n.clone()
	copied.base = false
	if x.chown {
		copied.uid, copied.gid = x.uid, x.gid
	}
	if x.mode != 0 && n.kind != Symlink {
		copied.mode = x.mode
	}
	return copied
}

// merge copies what is in a folder into another one.
func (x transfer) merge(to, from *node, at string) error {
	for _, name := range from.names() {
		p := path.Join(at, name)
		if len(x.exclude) > 0 {
			if out, err := patternmatcher.MatchesOrParentMatches(p, x.exclude); err != nil || out {
				continue
			}
		}
		kid, there := from.kids[name], to.kids[name]
		if kid.kind != Folder {
			if there != nil && there.kind == Folder {
				return errFile
			}
			to.kids[name] = x.own(kid)
			continue
		}
		if there == nil {
			there = folder(0, 0, 0)
			to.kids[name] = there
		}
		if there.kind != Folder {
			return errFolder
		}
		owned := x.own(&node{kind: Folder, mode: kid.mode, uid: kid.uid, gid: kid.gid})
		there.mode, there.uid, there.gid, there.base = owned.mode, owned.uid, owned.gid, false
		if err := x.merge(there, kid, p); err != nil {
			return err
		}
	}
	return nil
}

// hasDangling reports whether a folder has a link that leads nowhere in it.
func hasDangling(n *node) bool {
	t := &tree{n}
	for _, name := range n.names() {
		if n.kids[name].kind == Symlink && t.get("/"+name) == nil {
			return true
		}
	}
	return false
}

// copyParents copies what a source of --parents names, with the folders above it,
// from the last "/./" on.
func (x transfer) copyParents(to *tree, source string) error {
	root, pattern, pivot := strings.Cut(source, "/./")
	if !pivot {
		root, pattern = "/", source
	}
	pattern = strings.TrimPrefix(path.Clean("/"+pattern), "/")
	from := x.from.get(root)
	if from == nil || from.kind != Folder || pattern == "" {
		return errNone // BuildKit does not find "/" itself
	}
	if !hasPattern(source) && (&tree{from}).get(pattern) == nil {
		return errNone // for a link to nothing it depends on where it is
	}
	if err := to.mkdirAll(x.dest, x.dirMode(), x.uid, x.gid); err != nil {
		return err
	}
	var failed error
	from.walk("/", func(p string, n *node) {
		p = strings.TrimPrefix(p, "/")
		if in, err := patternmatcher.MatchesOrParentMatches(p, []string{pattern}); failed != nil || err != nil || !in {
			return
		}
		if out, err := patternmatcher.MatchesOrParentMatches(p, x.exclude); err != nil || out {
			return
		}
		dest := path.Join(x.dest, p)
		if failed = to.mkdirAll(path.Dir(dest), x.dirMode(), x.uid, x.gid); failed != nil {
			return
		}
		old := to.lget(dest)
		switch {
		case n.kind == Folder:
			failed = to.mkdirAll(dest, n.mode, x.uid, x.gid)
		case old != nil && old.kind == Folder:
			failed = errFile
		default:
			failed = to.put(dest, x.own(n))
		}
	})
	return failed
}

// extract unpacks an archive.
func (x transfer) extract(to *tree, a *Archive) error {
	if err := to.mkdirAll(x.dest, 0o755, x.uid, x.gid); err != nil {
		return err
	}
	for _, e := range a.Entries {
		p := path.Join(x.dest, e.Name)
		if p == path.Clean(x.dest) {
			continue
		}
		if err := to.mkdirAll(path.Dir(p), 0o755, 0, 0); err != nil {
			return err
		}
		old := to.lget(p)
		n := x.own(&node{kind: e.Kind, mode: e.Mode, uid: e.UID, gid: e.GID, link: e.Link})
		switch e.Kind {
		case Folder:
			if old != nil && old.kind == Folder {
				old.mode, old.uid, old.gid = n.mode, n.uid, n.gid
				continue
			}
			n.kids = map[string]*node{}
		case Hardlink:
			n.kind = Regular
		}
		if err := to.put(p, n); err != nil {
			return err
		}
	}
	return nil
}

func hasPattern(p string) bool { return strings.ContainsAny(p, "*?[") }

// matches are the paths that a pattern takes, in a folder that has to exist.
func (t *tree) matches(pattern string) ([]string, error) {
	parts := split(pattern)
	fixed := slices.IndexFunc(parts, hasPattern)
	dir, n, err := t.resolve(path.Join(parts[:fixed]...), true)
	if err != nil {
		return nil, err
	}
	if n == nil || n.kind != Folder {
		return nil, errNone
	}
	want := path.Join(parts[fixed:]...)
	var found []string
	n.walk("/", func(p string, _ *node) {
		p = strings.TrimPrefix(p, "/")
		if ok, err := filepath.Match(want, p); err == nil && ok {
			found = append(found, path.Join(dir, p))
		}
	})
	return found, nil
}
