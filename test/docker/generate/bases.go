package generate

import (
	"maps"
	"slices"
	"strings"
)

// Bases are the images that cases name besides scratch; package oracle serves them,
// and says what they have.
var Bases = []string{
	"busybox",
	"alpine:users",
	"alpine:app",
	"alpine:env",
	"alpine:volume",
	"alpine:configured",
	"alpine:odd",
	"alpine:onbuild",
	"tiny",
}

// stage is a model of a stage so far.
type stage struct {
	number   int
	name     string
	final    bool
	fs       *tree
	vars     variables
	user     string
	dir      string
	shell    bool // there is one
	absent   bool // the folder it starts in is made by the first RUN
	users    map[string]account
	groups   map[string]int
	triggers []func(*stage)
	removed  []string // paths that were there once
	volumes  []string
	entry    bool // has an ENTRYPOINT or a CMD
}

// clone is a stage that begins upon s.
func (s *stage) clone() *stage {
	copied := *s
	copied.fs = s.fs.clone()
	copied.vars = slices.Clone(s.vars)
	copied.users, copied.groups = maps.Clone(s.users), maps.Clone(s.groups)
	copied.removed, copied.volumes = slices.Clone(s.removed), slices.Clone(s.volumes)
	copied.triggers = nil
	copied.entry = false
	for _, trigger := range s.triggers {
		trigger(&copied)
	}
	return &copied
}

// newStage is a stage upon an image of Bases, or upon scratch.
func newStage(base string) *stage {
	s := &stage{fs: newTree(), dir: "/", users: map[string]account{}, groups: map[string]int{}}
	switch base {
	case "scratch":
		return s
	case "tiny":
		s.add("/etc", folder(0o755, 0, 0))
		s.add("/etc/motd", &node{kind: Regular, mode: 0o644})
		return s
	}
	s.shell = true
	s.vars.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", false)
	s.users["root"] = account{0, []int{0}}
	s.users["nobody"] = account{65534, []int{65534}}
	s.groups["root"], s.groups["nobody"] = 0, 65534
	for _, dir := range []string{"/bin", "/sbin", "/etc", "/home", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/var"} {
		s.add(dir, folder(0o755, 0, 0))
	}
	s.add("/root", folder(0o700, 0, 0))
	s.add("/tmp", folder(0o1777, 0, 0))
	s.add("/var/tmp", folder(0o1777, 0, 0))
	s.add("/bin/busybox", &node{kind: Regular, mode: 0o755})
	s.add("/bin/sh", &node{kind: Symlink, link: "/bin/busybox"})
	s.add("/etc/passwd", &node{kind: Regular, mode: 0o644})
	s.add("/etc/group", &node{kind: Regular, mode: 0o644})
	s.fs.walk(func(_ string, n *node) { n.base = true })

	if tag, ok := strings.CutPrefix(base, "alpine:"); ok {
		s.alpine(tag)
	}
	return s
}

// alpine adds the users that each of its tags has, and the tag's own.
func (s *stage) alpine(tag string) {
	s.users["app"] = account{1000, []int{1000, 4242}}
	s.users["ops"] = account{1001, []int{4242}}
	s.groups["app"], s.groups["docker"] = 1000, 4242
	s.add("/home/app", &node{kind: Folder, mode: 0o755, uid: 1000, gid: 1000, kids: map[string]*node{}, base: true})
	s.add("/home/ops", &node{kind: Folder, mode: 0o750, uid: 1001, gid: 4242, kids: map[string]*node{}, base: true})
	switch tag {
	case "app":
		s.user = "app"
	case "env":
		s.vars.set("MODE", "base", false)
		s.vars.set("EMPTY", "", false)
		s.vars.set("QUOTED", "", false)
		s.dir = "/srv/app"
		s.absent = true
	case "volume":
		s.volumes = []string{"/data"}
	case "onbuild":
		s.vars.set("FROM_TRIGGER", "yes", true)
		s.add("/triggered", &node{kind: Regular, mode: 0o644})
		s.add("/srv", folder(0o755, 0, 0))
		s.dir = "/srv"
	case "odd":
		s.add("/secure", folder(0o700, 1000, 1000))
		s.add("/secure/key", &node{kind: Regular, mode: 0o644, uid: 1000, gid: 1000})
		s.add("/sticky", folder(0o1777, 0, 4242))
		s.add("/setgid", folder(0o2775, 0, 4242))
		s.add("/target", folder(0o700, 0, 0))
		s.add("/target/inside", &node{kind: Regular, mode: 0o644})
		s.add("/link", &node{kind: Symlink, link: "/target"})
		s.add("/run", &node{kind: Folder, mode: 0o755, kids: map[string]*node{}, base: true})
		s.add("/var/run", &node{kind: Symlink, link: "/run", base: true})
		s.add("/dangling", &node{kind: Symlink, link: "/nowhere"})
		s.add("/hard", folder(0o755, 0, 0))
		s.add("/hard/a", &node{kind: Regular, mode: 0o644, linked: true})
		s.add("/hard/b", &node{kind: Regular, mode: 0o644, linked: true})
		s.add("/hard/setuid", &node{kind: Regular, mode: 0o4755})
		s.add("/hard/capable", &node{kind: Regular, mode: 0o755})
	}
}

func (s *stage) add(p string, n *node) {
	parent := p[:strings.LastIndex(p, "/")+1]
	if err := s.fs.mkdirAll(parent, 0o755, 0, 0); err == nil {
		_ = s.fs.put(p, n) // into a folder that is there
	}
}

// who is the account that USER stands for.
func (s *stage) who() account { return s.account(s.user) }

// account is the one that USER or --chown means by "name", "name:group" or figures.
func (s *stage) account(name string) account {
	if name == "" {
		return account{0, []int{0}}
	}
	user, group, grouped := strings.Cut(name, ":")
	a, known := s.users[user]
	if !known {
		uid, ok := number(user)
		if !ok {
			return account{0, []int{0}}
		}
		a = account{uid, []int{0}}
		for _, other := range s.users {
			if other.uid == uid {
				a = other
			}
		}
	}
	if grouped {
		gid, known := s.groups[group]
		if !known {
			gid, _ = number(group)
		}
		a.groups = []int{gid}
	}
	return a
}

func number(s string) (int, bool) {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != ""
}

// canRun tells whether a RUN would start: there is a shell, and the user may be in
// the folder it starts in.
func (s *stage) canRun() bool {
	if !s.shell || s.fs.get("/bin/sh") == nil {
		return false
	}
	if s.absent && s.fs.get(s.dir) == nil {
		return true // runc makes it
	}
	dir := s.fs.reach(s.dir, s.who())
	return dir != nil && dir.kind == Folder && dir.may(s.who(), 1)
}

// hasUser tells whether a user's name can be found: in scratch, figures alone can.
func (s *stage) hasUser(name string) bool {
	user, _, _ := strings.Cut(name, ":")
	_, figures := number(user)
	_, known := s.users[user]
	return figures || known || name == ""
}
