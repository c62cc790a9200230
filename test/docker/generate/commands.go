package generate

import (
	"path"
	"strings"
)

// mine is what the user makes: a file or folder of theirs.
func (s *stage) mine(kind Kind, mode uint32) *node {
	a := s.who()
	n := &node{kind: kind, mode: mode, uid: a.uid, gid: a.gid()}
	if kind == Folder {
		n.kids = map[string]*node{}
	}
	return n
}

// fresh is a path in a folder that the user may write to, and that nothing has.
func (g *generator) fresh(s *stage, names ...string) string {
	dir := g.writable(s)
	if dir == "" {
		return ""
	}
	p := path.Join(dir, pick(g, names...))
	if s.fs.lget(p) != nil {
		return ""
	}
	return p
}

func (g *generator) makeDir(s *stage) string {
	if s.who().uid == 0 && g.chance(0.6) {
		p := pick(g, "/app", "/data", "/srv/www", "/opt/tool/bin", "/etc/app/conf.d", "/var/lib/app", "/home/app/.config", "/usr/share/app")
		if len(s.volumes) > 0 && g.chance(0.4) {
			p = path.Join(pick(g, s.volumes...), pick(g, "", "in"))
		}
		if !g.allowed(s, p) || s.fs.mkdirAll(p, 0o755, 0, s.who().gid()) != nil {
			return ""
		}
		if s.fs.get(p) == nil {
			return ""
		}
		return "mkdir -p " + quoted(p)
	}
	p := g.fresh(s, "d", "sub", "made", "new dir")
	if p == "" {
		return ""
	}
	n := s.mine(Folder, 0o755)
	flags := ""
	if g.chance(0.3) {
		flags, n.mode = " -m 0700", 0o700
		if g.chance(0.3) {
			flags, n.mode = " -m 1777", 0o1777
		}
	}
	if s.fs.put(p, n) != nil {
		return ""
	}
	return "mkdir" + flags + " " + quoted(p)
}

func (g *generator) makeFile(s *stage) string {
	p := g.fresh(s, "f", "made.txt", "tool", ".hidden", "data.json", "with blank")
	if p == "" || s.fs.put(p, s.mine(Regular, 0o644)) != nil {
		return ""
	}
	p = quoted(p)
	return pick(g, "echo made > "+p, "touch "+p, ": > "+p, `printf 'a\nb' > `+p, "echo '$A' \"$A\" > "+p, "cp /etc/passwd "+p, "umask 077 && echo closed > "+p+" && umask 022")
}

func (g *generator) makeLink(s *stage) string {
	p := g.fresh(s, "ln", "current", "link to")
	if p == "" {
		return ""
	}
	files := s.own(Regular)
	if g.chance(0.4) && len(files) > 0 { // another name of the same file
		to := pick(g, files...)
		n := s.fs.reach(to, s.who())
		if n == nil || n.kind != Regular || s.who().uid != 0 && n.uid != s.who().uid {
			return ""
		}
		n.linked = true
		if s.fs.put(p, n.clone()) != nil {
			return ""
		}
		return "ln " + quoted(to) + " " + quoted(p)
	}
	n := s.mine(Symlink, 0o777)
	if all := s.own(Regular, Folder); len(all) > 0 && g.chance(0.85) {
		n.link = pick(g, all...)
		if path.Dir(n.link) == path.Dir(p) && g.chance(0.5) {
			n.link = path.Base(n.link)
		}
	} else {
		n.link = pick(g, "/nowhere", "nowhere", "..", "../tmp")
	}
	if s.fs.put(p, n) != nil {
		return ""
	}
	if s.fs.get(n.link) != nil && s.fs.get(n.link).kind == Folder && strings.HasPrefix(p, n.link+"/") {
		s.fs.remove(p) // it would lead to a folder it is in
		return ""
	}
	return "ln -s " + quoted(n.link) + " " + quoted(p)
}

// mayMove tells whether the user may take p away from the folder it is in.
func (s *stage) mayMove(p string) bool {
	a := s.who()
	dir := s.fs.reach(path.Dir(p), a)
	if dir == nil || !dir.may(a, 3) {
		return false
	}
	n := s.fs.lget(p)
	return n != nil && (a.uid == 0 || n.uid == a.uid && (n.kind != Folder || len(n.kids) == 0))
}

// busy tells whether p is the folder that RUNs start in, or above it.
func (s *stage) busy(p string) bool {
	at, _, err := s.fs.resolve(s.dir, true)
	return err != nil || s.dir == p || strings.HasPrefix(s.dir, p+"/") || at == p || strings.HasPrefix(at, p+"/")
}

// movable is a path that the user may take away, or empty.
func (g *generator) movable(s *stage) string {
	var found []string
	for _, p := range s.own(Regular, Folder, Symlink) {
		if s.mayMove(p) && !s.busy(p) && p != "/home" && p != "/out" && g.allowed(s, p) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return pick(g, found...)
}

// takeAway removes a file or a folder, and perhaps puts another in its place.
func (g *generator) takeAway(s *stage) string {
	p := g.movable(s)
	if p == "" {
		return ""
	}
	n := s.fs.lget(p)
	s.fs.remove(p)
	s.removed = append(s.removed, p)
	q := quoted(p)
	rm := "rm -rf " + q
	if n.kind != Folder {
		rm = pick(g, "rm ", "rm -f ") + q
	}
	switch {
	case g.chance(0.55):
		return rm
	case n.kind == Folder && g.chance(0.5):
		_ = s.fs.put(p, s.mine(Regular, 0o644))
		return rm + " && echo instead > " + q
	case n.kind == Folder:
		_ = s.fs.put(p, s.mine(Folder, 0o755))
		return rm + " && mkdir " + q
	case g.chance(0.5):
		_ = s.fs.put(p, s.mine(Folder, 0o755))
		_ = s.fs.put(p+"/in", s.mine(Regular, 0o644))
		return rm + " && mkdir " + q + " && touch " + quoted(p+"/in")
	default:
		link := s.mine(Symlink, 0o777)
		link.link = "/etc/passwd"
		_ = s.fs.put(p, link)
		return rm + " && ln -s /etc/passwd " + q
	}
}

// rename moves or copies a file or a folder.
func (g *generator) rename(s *stage) string {
	p, to := g.movable(s), g.fresh(s, "moved", "copy", "renamed to")
	if p == "" || to == "" || strings.HasPrefix(to, p+"/") || s.fs.lget(p) == nil {
		return ""
	}
	if at, _, err := s.fs.resolve(path.Dir(to), true); err != nil || at == p || strings.HasPrefix(at, p+"/") {
		return ""
	}
	n := s.fs.lget(p)
	if s.fs.put(to, n.clone()) != nil {
		return ""
	}
	if s.who().uid == 0 && g.chance(0.4) {
		return pick(g, "cp -a ", "cp -a ", "cp -rp ") + quoted(p) + " " + quoted(to)
	}
	s.fs.remove(p)
	s.removed = append(s.removed, p)
	return "mv " + quoted(p) + " " + quoted(to)
}

// change gives a file another mode or owner.
func (g *generator) change(s *stage) string {
	a := s.who()
	var found []string
	for _, p := range s.own(Regular, Folder) {
		n := s.fs.reach(p, a)
		// With BuildKit a file whose names are of several layers becomes several.
		if n != nil && !n.linked && n.kind != Symlink && (a.uid == 0 || n.uid == a.uid) && p != "/home" && (a.uid == 0 || !s.busy(p)) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return ""
	}
	p := pick(g, found...)
	n := s.fs.lget(p)
	if a.uid == 0 && g.chance(0.5) {
		owner := pick(g, "1000:1000", "1234:5678", "1000", "0:1000")
		if _, ok := s.users["app"]; ok {
			owner = pick(g, owner, "app:app", "app", ":docker", "app:docker")
		}
		to := s.account(owner)
		if !strings.HasPrefix(owner, ":") {
			n.uid = to.uid
		}
		if strings.Contains(owner, ":") {
			n.gid = to.gid()
		}
		flags := ""
		if n.kind == Folder && g.chance(0.4) && len((&tree{n}).paths(func(_ string, kid *node) bool { return kid.linked })) == 0 {
			flags = "-R "
			n.walk(p, func(_ string, kid *node) { kid.uid, kid.gid = n.uid, n.gid })
		}
		return "chown " + flags + owner + " " + quoted(p)
	}
	modes := map[string]uint32{"0600": 0o600, "755": 0o755, "4755": 0o4755, "2755": 0o2755, "0444": 0o444}
	mode := pick(g, "0600", "755", "4755", "2755", "0444")
	if n.kind == Folder {
		modes = map[string]uint32{"0700": 0o700, "755": 0o755, "1777": 0o1777, "2775": 0o2775, "0555": 0o555}
		mode = pick(g, "0700", "755", "1777", "2775", "0555")
	}
	n.mode = modes[mode]
	return "chmod " + mode + " " + quoted(p)
}

// addUser adds a user as adduser would, which busybox's users seldom have.
func (g *generator) addUser(s *stage) string {
	if _, ok := s.users["svc"]; ok || s.who().uid != 0 || s.fs.get("/etc/passwd") == nil || s.fs.get("/etc/group") == nil {
		return ""
	}
	s.users["svc"], s.groups["svc"] = account{2000, []int{2000}}, 2000
	return "echo 'svc:x:2000:2000::/home/svc:/bin/sh' >> /etc/passwd && echo 'svc:x:2000:' >> /etc/group"
}

// control is a command that consists of others.
func (g *generator) control(s *stage, commands *[]string) string {
	out := g.out(s, commands)
	if out == "" {
		return ""
	}
	there := "/tmp"
	if found := s.own(Regular, Folder, Symlink); len(found) > 0 {
		there = quoted(pick(g, found...))
	}
	return pick(g,
		"if [ -e "+there+" ]; then echo there > "+out+"; else echo not there > "+out+"; fi",
		"for f in a b c; do echo $f >> "+out+"; done",
		"(cd /tmp && pwd > "+out+")",
		"echo b a | tr ' ' '\\n' | sort > "+out,
		"case \"$(uname -s)\" in Linux) echo linux > "+out+" ;; esac",
		"{ echo one; echo two; } > "+out,
		"echo \"$(echo nested)\" `echo back` > "+out,
		"x='a b' sh -c 'echo \"$x\"' > "+out,
	)
}
