package generate

import (
	"maps"
	"slices"
	"strings"
)

// Bases are the images that cases name besides scratch. Who builds the cases
// serves them under these names, of busybox's commands in /bin, /sbin, /usr/bin and
// /usr/sbin, with /root, /tmp and /usr/local/bin, and:
var Bases = []string{
	"busybox", // has the users root and nobody
	"alpine:users",
	"alpine:app",
	"alpine:env",
	"alpine:volume",
	"alpine:secure",
	"alpine:onbuild",
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
	if base == "scratch" {
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
	s.add("/bin/busybox", &node{kind: Regular, mode: 0o755})
	s.add("/bin/sh", &node{kind: Symlink, link: "/bin/busybox"})
	s.add("/etc/passwd", &node{kind: Regular, mode: 0o644})
	s.add("/etc/group", &node{kind: Regular, mode: 0o644})
	s.fs.walk(func(_ string, n *node) { n.base = true })

	if kind, ok := strings.CutPrefix(base, "alpine:"); ok {
		s.alpine(kind)
	}
	return s
}

// alpine adds the users that each of its tags has, and the tag's own.
func (s *stage) alpine(tag string) {
	s.users["app"] = account{1000, []int{1000, 4242}}
	s.groups["app"], s.groups["docker"] = 1000, 4242
	s.add("/home/app", folder(0o755, 1000, 1000))
	switch tag {
	case "app":
		s.user = "app"
	case "env":
		// Its ENV and WORKDIR are not relied upon: expressions cope with any.
		s.vars.set("BASE_ENV", "from-base", false)
		s.dir = "/srv"
		s.add("/srv", folder(0o755, 0, 0))
	case "volume":
		s.volumes = []string{"/data"}
		s.add("/data", folder(0o755, 0, 0))
	case "secure":
		s.add("/secure", folder(0o700, 1000, 1000))
		s.add("/target", folder(0o755, 0, 0))
		s.add("/link", &node{kind: Symlink, link: "/target"})
		s.add("/run", &node{kind: Folder, mode: 0o755, kids: map[string]*node{}, base: true})
		s.add("/var/run", &node{kind: Symlink, link: "/run", base: true})
		s.add("/hl", folder(0o755, 0, 0))
		s.add("/hl/a", &node{kind: Regular, mode: 0o644})
		s.add("/hl/b", &node{kind: Regular, mode: 0o644})
		s.add("/caps", &node{kind: Regular, mode: 0o755})
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
