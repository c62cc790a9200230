package generate

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
)

// tree is a model of files: those of the context, or of a stage so far. It knows
// no more of a file than it takes to tell whether an instruction would work.
type tree struct{ root *node }

type node struct {
	kind     Kind
	mode     uint32
	uid, gid int
	link     string
	base     bool // the base has it, and nothing of interest is in it
	linked   bool // it has another name as well
	archive  *Archive
	kids     map[string]*node
}

var (
	errLoop   = errors.New("links lead round in a circle")
	errFolder = errors.New("is no folder")
	errFile   = errors.New("is a folder")
	errNone   = errors.New("does not exist")
	errIndex  = errors.New("no user has a name there: BuildKit 0.30 takes figures alone with --link")
)

func newTree() *tree { return &tree{folder(0o755, 0, 0)} }

func folder(mode uint32, uid, gid int) *node {
	return &node{kind: Folder, mode: mode, uid: uid, gid: gid, kids: map[string]*node{}}
}

func (t *tree) clone() *tree { return &tree{t.root.clone()} }

func (n *node) clone() *node {
	copied := *n
	if n.kids != nil {
		copied.kids = make(map[string]*node, len(n.kids))
		for name, kid := range n.kids {
			copied.kids[name] = kid.clone()
		}
	}
	return &copied
}

// names are in the order of the alphabet: nothing may depend on a map's.
func (n *node) names() []string { return slices.Sorted(maps.Keys(n.kids)) }

// resolve follows links, inside the tree; the last one only if it is to. Components
// that do not exist stay as they are.
func (t *tree) resolve(p string, last bool) (string, *node, error) {
	rest := split(p)
	at, n := "/", t.root
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = path.Dir(at)
			_, n, _ = t.resolve(at, false)
			continue
		}
		next := path.Join(at, name)
		switch {
		case n == nil:
			at = next
			continue
		case n.kind != Folder:
			return "", nil, errFolder
		}
		kid := n.kids[name]
		if kid != nil && kid.kind == Symlink && (last || len(rest) > 0) {
			if links++; links > 32 {
				return "", nil, errLoop
			}
			if path.IsAbs(kid.link) {
				at, n = "/", t.root
			}
			rest = append(split(kid.link), rest...)
			continue
		}
		at, n = next, kid
	}
	return at, n, nil
}

// split are a path's components, without those that mean nothing.
func split(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" || s == "." })
}

// get is the file that p leads to, or nil.
func (t *tree) get(p string) *node {
	_, n, err := t.resolve(p, true)
	if err != nil {
		return nil
	}
	return n
}

// lget is the file that p names, which may be a link.
func (t *tree) lget(p string) *node {
	_, n, err := t.resolve(p, false)
	if err != nil {
		return nil
	}
	return n
}

// mkdirAll makes the folders that are missing. Like BuildKit's, it fails where a
// component is a link that leads nowhere.
func (t *tree) mkdirAll(p string, mode uint32, uid, gid int) error {
	at, _, err := t.resolve(p, true)
	if err != nil {
		return err
	}
	n := t.root
	for _, name := range split(at) {
		kid := n.kids[name]
		if kid == nil {
			kid = folder(mode, uid, gid)
			n.kids[name] = kid
		}
		if kid.kind != Folder {
			return errFolder
		}
		n = kid
	}
	return nil
}

// put sets what p names; the folder it is in has to exist.
func (t *tree) put(p string, n *node) error {
	dir := t.get(path.Dir(p))
	if dir == nil {
		return errNone
	}
	if dir.kind != Folder {
		return errFolder
	}
	dir.kids[path.Base(p)] = n
	return nil
}

// remove takes away what p names.
func (t *tree) remove(p string) {
	if dir := t.get(path.Dir(p)); dir != nil && dir.kind == Folder {
		delete(dir.kids, path.Base(p))
	}
}

// walk calls f for all but the root, with absolute paths, folders first.
func (t *tree) walk(f func(p string, n *node)) { t.root.walk("/", f) }

func (n *node) walk(at string, f func(p string, n *node)) {
	for _, name := range n.names() {
		kid := n.kids[name]
		p := path.Join(at, name)
		f(p, kid)
		kid.walk(p, f)
	}
}

// paths are those of the files that f takes.
func (t *tree) paths(f func(p string, n *node) bool) []string {
	var found []string
	t.walk(func(p string, n *node) {
		if f(p, n) {
			found = append(found, p)
		}
	})
	return found
}

// account is who acts.
type account struct {
	uid    int
	groups []int // the first is the primary one
}

func (a account) gid() int { return a.groups[0] }

// may tells whether the account has all of the bits (4 read, 2 write, 1 enter) on n.
func (n *node) may(a account, bits uint32) bool {
	mode := n.mode
	switch {
	case a.uid == 0:
		return true
	case a.uid == n.uid:
		mode >>= 6
	case slices.Contains(a.groups, n.gid):
		mode >>= 3
	}
	return mode&bits == bits
}

// reach is the file that p leads to, if the account can get there: nil where it
// does not exist or a folder above it is closed.
func (t *tree) reach(p string, a account) *node {
	at, n, err := t.resolve(p, true)
	if err != nil || n == nil {
		return nil
	}
	for dir := path.Dir(at); ; dir = path.Dir(dir) {
		if d := t.get(dir); d == nil || !d.may(a, 1) {
			return nil
		}
		if dir == "/" {
			return n
		}
	}
}
