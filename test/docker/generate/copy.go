package generate

import (
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// copy is a COPY or an ADD. Of a number of attempts the first is taken that the
// model says would work; from asks for one out of a stage that nothing uses yet.
func (g *generator) copy(s *stage, add, from bool) bool {
	for range 12 {
		i, x, ok := g.attempt(s, add, from)
		if !ok {
			continue
		}
		files := s.fs.clone()
		if err := x.apply(files); err != nil && !g.chance(0.002) {
			continue
		}
		s.fs = files
		if x.stage != nil {
			g.used[x.stage.number] = true
		}
		g.write(i)
		return true
	}
	return false
}

func (g *generator) attempt(s *stage, add, from bool) (Instruction, transfer, bool) {
	i, x := Instruction{Name: "COPY"}, transfer{from: g.context, unpack: add}
	if add {
		i.Name = "ADD"
	}
	if !add {
		if flag := g.copyFrom(s, &x, from); flag != "" {
			i.Flags = append(i.Flags, flag)
		}
	}
	fromContext := x.from == g.context
	switch {
	case fromContext && g.chance(0.07):
		g.inline(s, &i, &x)
	case !g.sources(&x, fromContext):
		return i, x, false
	}
	g.copyFlags(s, &i, &x, fromContext)
	if !g.dest(s, &x) {
		return i, x, false
	}
	i.JSON = len(i.Docs) == 0 && (g.chance(0.06) || slices.ContainsFunc(append(slices.Clone(x.sources), x.dest), func(p string) bool { return strings.Contains(p, " ") }))
	for _, source := range x.sources {
		i.Words = append(i.Words, g.word(s, source))
	}
	for _, d := range i.Docs {
		i.Words = append(i.Words, d.marker())
	}
	dest := x.dest
	if !path.IsAbs(dest) {
		if dest == "" {
			dest = "."
		}
		x.dest = path.Join(s.dir, dest)
		if strings.HasSuffix(dest, "/") || path.Base(dest) == "." {
			x.dest = strings.TrimSuffix(x.dest, "/") + "/"
		}
	}
	if !g.allowed(s, x.dest) || len(i.Docs) > 0 && strings.Contains(dest, " ") {
		return i, x, false
	}
	i.Words = append(i.Words, g.word(s, dest))
	return i, x, true
}

// copyFrom chooses another stage or an image as the source.
func (g *generator) copyFrom(s *stage, x *transfer, from bool) string {
	chance := 0.0
	if len(g.stages) > 1 {
		chance = 0.4
		if s.final {
			chance = 0.55
		}
	}
	if from || g.chance(chance) {
		earlier := g.stages[:s.number]
		if from {
			earlier = slices.DeleteFunc(slices.Clone(earlier), func(e *stage) bool { return g.used[e.number] })
		}
		e := pick(g, earlier...)
		x.from = e.fs
		if len(e.own(Regular, Folder, Symlink)) == 0 && !g.chance(0.1) {
			x.from = g.context
			return ""
		}
		x.stage = e
		switch {
		case e.name == "" || g.chance(0.1):
			return "--from=" + strconv.Itoa(e.number)
		case g.chance(0.03):
			return "--from=" + strings.ToUpper(e.name)
		}
		return "--from=" + e.name
	}
	if g.chance(0.04) {
		image := pick(g, "alpine:odd", "alpine:odd", "busybox", "alpine:users", "alpine:volume")
		x.from = newStage(image).fs
		return "--from=" + image
	}
	return ""
}

// own are the paths of the files that the base has not, or that it has for a
// purpose.
func (s *stage) own(kinds ...Kind) []string {
	return s.fs.paths(func(_ string, n *node) bool { return !n.base && slices.Contains(kinds, n.kind) })
}

// sources chooses what is copied.
func (g *generator) sources(x *transfer, fromContext bool) bool {
	number := 1
	if g.chance(0.16) {
		number = 2 + g.r.IntN(2)
	}
	x.parents = !x.unpack && g.chance(0.06)
	for range number {
		p := g.source(x, fromContext)
		if p == "" {
			return false
		}
		x.sources = append(x.sources, p)
	}
	return true
}

func (g *generator) source(x *transfer, fromContext bool) string {
	files := x.from.paths(func(_ string, n *node) bool { return !n.base })
	if len(files) == 0 || !fromContext && g.chance(0.05) {
		if fromContext {
			return pick(g, ".", "*")
		}
		return pick(g, "/etc/passwd", "/etc/group", "/bin/sh", "/tmp")
	}
	if fromContext && g.chance(0.12) {
		return pick(g, ".", ".", "./", "/")
	}
	if x.unpack {
		if archives := x.from.paths(func(_ string, n *node) bool { return n.archive != nil }); len(archives) > 0 && g.chance(0.8) {
			return g.spelled(pick(g, archives...), x.from, fromContext)
		}
	}
	if links := x.from.paths(func(_ string, n *node) bool { return n.kind == Symlink && !n.base }); len(links) > 0 && g.chance(0.12) {
		files = links
	}
	p := pick(g, files...)
	if x.from.get(p) == nil && !g.chance(0.05) {
		p = pick(g, files...) // one that leads nowhere is seldom meant
	}
	if strings.ContainsAny(p, "[*?") {
		return strings.TrimPrefix(strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(p), "/")
	}
	if g.chance(0.12) {
		return g.spelled(g.pattern(p, x.parents), x.from, fromContext)
	}
	return g.spelled(p, x.from, fromContext)
}

// pattern is one that takes p, and perhaps others.
func (g *generator) pattern(p string, parents bool) string {
	dir, name := path.Split(p)
	switch g.r.IntN(5) {
	case 0:
		return dir + "*"
	case 1:
		if ext := path.Ext(name); ext != "" && ext != name {
			return dir + "*" + ext
		}
		return dir + name[:1] + "*"
	case 2:
		return dir + name[:len(name)-1] + "?"
	case 3:
		if up := path.Dir(path.Clean(dir)); dir != "/" {
			return path.Join(up, "*", name)
		}
		return dir + "[" + name[:1] + "]" + name[1:] + "*"
	default:
		if parents {
			return "/**/" + name
		}
		return dir + "nothing-like-this*"
	}
}

// spelled writes a path in one of the ways that mean the same.
func (g *generator) spelled(p string, from *tree, fromContext bool) string {
	rest := strings.TrimPrefix(p, "/")
	if n := from.get(p); n != nil && n.kind == Folder && !hasPattern(p) && g.chance(0.4) {
		rest += pick(g, "/", "/", "/.")
	}
	switch {
	case fromContext && g.chance(0.06), !fromContext && g.chance(0.85):
		return "/" + rest
	case g.chance(0.1):
		return "./" + rest
	case g.chance(0.02):
		return "x/../" + rest
	}
	return rest
}

// copyFlags chooses owner, mode, and the rest.
func (g *generator) copyFlags(s *stage, i *Instruction, x *transfer, fromContext bool) {
	if _, added := s.users["svc"]; g.chance(0.18) || added && g.chance(0.3) {
		owners := []string{"1000", "1000:1000", "0:0", "1234:5678", "65532:65532"}
		if s.shell {
			owners = append(owners, "nobody", "root:root")
		}
		if _, ok := s.users["app"]; ok {
			owners = append(owners, "app", "app:app", "app:docker", "app", "1000:docker", ":docker")
		}
		if _, ok := s.users["svc"]; ok {
			owners = []string{"svc", "svc:svc", "svc"}
		}
		owner := pick(g, owners...)
		a := s.account(owner)
		x.chown, x.uid, x.gid = true, a.uid, a.gid()
		x.named = strings.ContainsAny(owner, "abcdefghijklmnopqrstuvwxyz")
		if _, figures := number(owner); figures {
			x.gid = a.uid
		}
		i.Flags = append(i.Flags, "--chown="+g.flagWord(s, owner))
	}
	if g.chance(0.13) {
		mode := pick(g, "755", "0644", "0755", "644", "400", "4755", "1777", "700", "0750",
			"u=rwX,go=rX", "a+rX", "u=rwx,go=", "g=u", "go-w,u+x", "+x")
		if m, err := strconv.ParseUint(mode, 8, 32); err == nil {
			x.mode = uint32(m)
		}
		i.Flags = append(i.Flags, "--chmod="+g.flagWord(s, mode))
	}
	if g.chance(0.07) {
		x.link = !slices.ContainsFunc(i.Flags, func(f string) bool { return strings.HasPrefix(f, "--chmod=") })
		i.Flags = append(i.Flags, pick(g, "--link", "--link", "--link=true"))
	}
	if len(i.Docs) == 0 {
		folders := slices.ContainsFunc(x.sources, func(p string) bool {
			n := x.from.get(p)
			return hasPattern(p) || n != nil && n.kind == Folder
		})
		if folders && g.chance(0.14) || g.chance(0.015) {
			for range 1 + g.r.IntN(2) {
				p := pick(g, "*.md", "*.key", "**/*.md", "deep", "c", "b/*", "*/c", "**/x", "css", "!y", "in", ".git")
				x.exclude = append(x.exclude, p)
				i.Flags = append(i.Flags, "--exclude="+p)
			}
		}
		if x.parents {
			i.Flags = append(i.Flags, "--parents")
			g.pivot(x)
		}
	}
	if i.Name == "ADD" && g.chance(0.02) {
		unpack := g.chance(0.5)
		x.unpack = unpack
		i.Flags = append(i.Flags, "--unpack="+strconv.FormatBool(unpack))
	}
	if fromContext || g.chance(0.5) {
		g.r.Shuffle(len(i.Flags), func(a, b int) { i.Flags[a], i.Flags[b] = i.Flags[b], i.Flags[a] })
	}
}

// flagWord writes a flag's value, which takes variables but no quotes.
func (g *generator) flagWord(s *stage, value string) string {
	for _, v := range s.vars {
		if v.path && v.value == value && g.chance(0.7) {
			return pick(g, "$"+v.name, "${"+v.name+"}")
		}
		if v.name == "OWNER" && v.value != "" && value == v.value+":"+v.value {
			return "$OWNER:$OWNER"
		}
	}
	if g.chance(0.05) {
		return "${NOT_SET:-" + value + "}"
	}
	return value
}

// pivot says from where on a source's folders are kept.
func (g *generator) pivot(x *transfer) {
	for n, p := range x.sources {
		if slash := strings.IndexByte(strings.TrimPrefix(p, "/"), '/'); slash > 0 && g.chance(0.25) && !strings.Contains(p, "/.") {
			if before := p[:strings.Index(p[1:], "/")+1]; !hasPattern(before) {
				x.sources[n] = before + "/." + p[len(before):]
			}
		}
	}
}

// dest chooses where to: as it is written, so it may be relative.
func (g *generator) dest(s *stage, x *transfer) bool {
	many := len(x.sources)+len(x.docs) > 1 || x.parents || slices.ContainsFunc(x.sources, hasPattern)
	name := "file"
	if len(x.sources) > 0 {
		name = path.Base(path.Clean("/" + x.sources[0]))
	}
	if name == "/" || hasPattern(name) {
		name = "all"
	}
	existing := func(kinds ...Kind) string {
		if found := s.own(kinds...); len(found) > 0 {
			return pick(g, found...)
		}
		return ""
	}
	slash := func(p string) string {
		if p != "" && (many || g.chance(0.5)) && !strings.HasSuffix(p, "/") {
			p += "/"
		}
		return p
	}
	to := ""
	ok := g.one(
		option{16, func() bool { to = pick(g, ".", "./", "./", ""); return to != "" }},
		option{10, func() bool { to = slash(pick(g, "sub", "./bin", "conf.d/x", "../beside")); return true }},
		option{18, func() bool {
			to = slash(pick(g, "/app", "/srv", "/etc/app", "/opt/new/deep", "/data", "/usr/share/app", "/home/app", "/", "/app/bin"))
			return to != "/" || many || g.chance(0.5)
		}},
		option{12, func() bool {
			to = pick(g, "/usr/local/bin/", "/app/", "/etc/app/", "/") + name
			return !many
		}},
		option{16, func() bool { to = slash(existing(Folder)); return to != "" }},
		option{6, func() bool { to = slash(existing(Symlink)); return to != "" }},
		option{5, func() bool { to = existing(Regular); return to != "" && !many }},
		option{8, func() bool {
			if len(s.removed)+len(s.volumes) == 0 {
				return false
			}
			to = slash(pick(g, append(slices.Clone(s.removed), s.volumes...)...))
			return true
		}},
		option{4, func() bool {
			for _, v := range s.vars {
				if v.path && path.IsAbs(v.value) {
					to = slash(v.value)
					return true
				}
			}
			return false
		}},
		option{2, func() bool { to = path.Join(pick(g, "/app", "/srv", "/"), name, "nested", "new") + "/"; return true }},
		option{0.5, func() bool { to = "/with blank/" + name; return len(x.docs) == 0 }},
	)
	x.dest = to
	return ok
}

// Paths that a pod has mounts at, or that a stage needs to run.
var forbidden = []string{
	"/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run", "/var/run", "/tekton", "/kaniko",
	"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/lib", "/etc/passwd", "/etc/group",
}

// allowed tells whether files can be put at p, wherever its links lead.
func (g *generator) allowed(s *stage, p string) bool {
	to, _, err := s.fs.resolve(p, true)
	if err != nil {
		return false
	}
	for _, q := range []string{filepath.Clean(p), to} {
		for _, f := range forbidden {
			if q == f || strings.HasPrefix(q, f+"/") {
				return false
			}
		}
		if q == "/workspace" || strings.HasPrefix(q, "/workspace/") {
			return !s.final && s.dir == "/workspace"
		}
	}
	return true
}
