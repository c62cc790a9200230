package generate

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// mount is one of a RUN, and the commands that show it.
type mount struct {
	flag     string
	target   string // absolute
	stage    *stage // that it is from, or nil
	commands []string
}

// mounted is a RUN with one or two mounts.
func (g *generator) mounted(s *stage) bool {
	i := Instruction{Name: "RUN", Glue: "&&"}
	var targets []string
	out := func() string {
		var p string
		for range 6 {
			before := s.fs.clone()
			var makes []string
			p = g.out(s, &makes)
			under := false
			for _, t := range targets {
				under = under || strings.HasPrefix(strings.Trim(p, "'"), t+"/")
			}
			if p != "" && !under {
				i.Words = append(i.Words, makes...)
				return p
			}
			s.fs = before
		}
		return ""
	}
	for range 1 + g.r.IntN(2)*g.r.IntN(2) {
		var m mount
		if !g.one(
			option{5, func() bool { return g.bind(s, &m) }},
			option{4, func() bool { return g.cacheMount(s, &m) }},
			option{2, func() bool { return g.tmpfs(s, &m) }},
		) {
			return false
		}
		for _, t := range targets {
			if t == m.target || strings.HasPrefix(t, m.target+"/") || strings.HasPrefix(m.target, t+"/") {
				return false
			}
		}
		targets = append(targets, m.target)
		if m.stage != nil {
			g.used[m.stage.number] = true
		}
		i.Flags = append(i.Flags, m.flag)
		for _, c := range m.commands {
			p := ""
			if strings.Contains(c, "OUT") {
				if p = out(); p == "" {
					return false
				}
			}
			i.Words = append(i.Words, strings.ReplaceAll(c, "OUT", p))
		}
	}
	g.write(i)
	return true
}

// fields writes a mount's flag: in any order, perhaps with quotes.
func (g *generator) fields(s *stage, kind, target string, more ...string) string {
	all := append([]string{"type=" + kind}, more...)
	key := pick(g, "target", "target", "target", "dst", "destination")
	value := target
	for _, v := range s.vars {
		if v.path && v.value != "" && strings.HasPrefix(target, v.value) && g.chance(0.6) {
			value = "${" + v.name + "}" + target[len(v.value):]
			break
		}
	}
	switch {
	case g.chance(0.1):
		all = append(all, key+`="`+value+`"`)
	default:
		all = append(all, key+"="+value)
	}
	if g.chance(0.15) {
		g.r.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	}
	return "--mount=" + strings.Join(all, ",")
}

// varied is p, or a path of a variable, which fields will write by its name.
func (g *generator) varied(s *stage, p string) string {
	for _, v := range s.vars {
		if v.path && path.IsAbs(v.value) && g.chance(0.4) {
			return path.Join(v.value, pick(g, "in", "cache", "tmp"))
		}
	}
	return p
}

// fits tells whether a mount of that kind can be put at an absolute path.
func (g *generator) fits(s *stage, p string, kind Kind) bool {
	if !g.allowed(s, p) || p == "/" || p == "/tmp" || p == "/out" {
		return false
	}
	at, n, err := s.fs.resolve(p, true)
	return err == nil && at == p && (n == nil || n.kind == kind) && s.fs.clone().mkdirAll(path.Dir(p), 0o755, 0, 0) == nil
}

func (g *generator) bind(s *stage, m *mount) bool {
	from, more := g.context, []string{}
	if s.number > 0 && g.chance(0.65) {
		e := g.stages[g.r.IntN(s.number)]
		name := e.name
		if name == "" || g.chance(0.1) {
			name = strconv.Itoa(e.number)
		}
		if len(e.own(Folder, Regular)) == 0 {
			return false
		}
		from = e.fs
		more = append(more, "from="+name)
		m.stage = e
	}
	source, kind := "", Folder
	if found := from.paths(func(p string, n *node) bool {
		return !n.base && (n.kind == Folder || n.kind == Regular) && !strings.ContainsAny(p, " ,$'\"[")
	}); len(found) > 0 && (from != g.context || g.chance(0.6)) {
		source = pick(g, found...)
		kind = from.get(source).kind
		more = append(more, pick(g, "source=", "source=", "src=")+g.spelledSource(source))
	}
	if source == "" && from != g.context {
		return false
	}
	written := g.varied(s, pick(g, "/src", "/mnt/in", "/app/mounted", "/in"))
	if kind == Folder && g.chance(0.25) {
		written = pick(g, ".", "here", "/app")
	}
	if source != "" && g.chance(0.2) {
		written = path.Base(source)
	}
	m.target = path.Join(s.dir, written)
	if path.IsAbs(written) {
		m.target = written
	}
	if !g.fits(s, m.target, kind) {
		return false
	}
	rw := g.chance(0.3)
	if rw {
		more = append(more, pick(g, "rw", "readwrite", "rw=true", "readonly=false"))
	} else if g.chance(0.2) {
		more = append(more, pick(g, "ro", "readonly"))
	}
	m.flag = g.fields(s, "bind", written, more...)
	if g.chance(0.15) { // bind is what a mount is by default
		m.flag = strings.Replace(m.flag, "type=bind,", "", 1)
	}
	t := quoted(m.target)
	m.commands = append(m.commands, "{ find "+t+" | sort; } > OUT 2>&1 || true")
	switch {
	case kind == Folder && g.chance(0.5):
		m.commands = append(m.commands, "stat -c '%A %u:%g %n' "+t+" "+t+"/* > OUT 2>&1 || true")
	case kind == Regular:
		m.commands = append(m.commands, "cat "+t+" > OUT 2>&1 || true", "stat -c '%A %u:%g' "+t+" > OUT")
	case g.chance(0.3):
		m.commands = append(m.commands, "cp -r "+t+" OUT || true")
	}
	// What is written is lost. Without rw it fails with BuildKit alone:
	// docs/kaniko.md has this among what remains different.
	if kind == Folder && rw && g.chance(0.6) {
		m.commands = append(m.commands, "if echo x 2>/dev/null > "+t+"/written; then echo could; else echo could not; fi > OUT 2>/dev/null")
	}
	return true
}

func (g *generator) spelledSource(p string) string {
	return pick(g, p, strings.TrimPrefix(p, "/"), "."+p)
}

func (g *generator) cacheMount(s *stage, m *mount) bool {
	written := g.varied(s, pick(g, "/root/.cache/go-build", "/cache", "/var/cache/app", "/app/.cache", "cache"))
	m.target = path.Join(s.dir, written)
	if path.IsAbs(written) {
		m.target = written
	}
	if !g.fits(s, m.target, Folder) {
		return false
	}
	// What a cache has is no part of the case: its name is the case's own, and
	// nothing is listed.
	more := []string{fmt.Sprintf("id=seed-%d-%d", g.c.Seed, g.names)}
	if g.chance(0.3) {
		more = append(more, "sharing="+pick(g, "shared", "locked", "private"))
	}
	owned := s.who().uid == 0
	if g.chance(0.3) {
		a := s.who()
		more = append(more, "uid="+strconv.Itoa(a.uid), "gid="+strconv.Itoa(a.gid()))
		if g.chance(0.5) {
			more = append(more, "mode="+pick(g, "0700", "0755", "1777"))
		}
		owned = true
	}
	m.flag = g.fields(s, "cache", written, more...)
	t := quoted(m.target)
	m.commands = append(m.commands, "stat -c '%A %u:%g' "+t+" > OUT 2>&1 || true")
	if owned && s.fs.reach(path.Dir(m.target), s.who()) != nil {
		m.commands = append(m.commands, "echo kept > "+t+"/f", "cat "+t+"/f > OUT")
	}
	return true
}

func (g *generator) tmpfs(s *stage, m *mount) bool {
	written := g.varied(s, pick(g, "/scratch", "/app/tmp", "/var/tmp/x", "/data"))
	m.target = written
	if !g.fits(s, m.target, Folder) {
		return false
	}
	var more []string
	if g.chance(0.3) {
		more = append(more, "size="+pick(g, "1m", "1048576", "2MB"))
	}
	m.flag = g.fields(s, "tmpfs", written, more...)
	t := quoted(m.target)
	m.commands = []string{"echo gone > " + t + "/f || true", "ls -A " + t + " > OUT 2>&1 || true"}
	return true
}
