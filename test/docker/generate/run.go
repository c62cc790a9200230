package generate

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// run is a RUN: commands in one of its forms.
func (g *generator) run(s *stage) bool {
	if !s.hasUser(s.user) {
		return false
	}
	whole := func(weight float64, form func(*stage) bool) option {
		return option{weight, func() bool {
			before := *s
			before.fs, before.users, before.groups = s.fs.clone(), maps.Clone(s.users), maps.Clone(s.groups)
			if form(s) {
				return true
			}
			*s = before
			return false
		}}
	}
	return g.one(whole(68, g.shellForm), whole(8, g.execForm), whole(10, g.script), whole(14, g.mounted))
}

func (g *generator) shellForm(s *stage) bool {
	i := Instruction{Name: "RUN", Glue: "&&"}
	i.Words = g.commands(s, 1+g.r.IntN(2)+g.r.IntN(2))
	if len(i.Words) == 0 {
		return false
	}
	if g.chance(0.12) {
		i.Glue = ";"
	}
	if g.chance(0.06) {
		i.Words = slices.Insert(i.Words, 0, pick(g, "set -e", "set -ex", ": a comment", "true"))
		i.Glue = ";"
	}
	if g.chance(0.02) {
		i.Flags = []string{pick(g, "--network=default", "--network=none")}
	}
	g.write(i)
	return true
}

// execForm is a RUN without a shell, but for the one that it may name itself.
func (g *generator) execForm(s *stage) bool {
	i := Instruction{Name: "RUN", JSON: true}
	if g.chance(0.5) {
		commands := g.commands(s, 1)
		if len(commands) == 0 {
			return false
		}
		i.Words = []string{pick(g, "/bin/sh", "sh"), "-c", strings.Join(commands, " && ")}
		g.write(i)
		return true
	}
	dir := g.writable(s)
	if dir == "" {
		return false
	}
	p := path.Join(dir, pick(g, "exec", "a b", "$HOME", `quo"te`))
	if s.fs.lget(p) != nil {
		return false
	}
	a := s.who()
	_ = s.fs.put(p, &node{kind: Folder, mode: 0o755, uid: a.uid, gid: a.gid(), kids: map[string]*node{}, base: strings.ContainsAny(p, `$" `)})
	i.Words = []string{"/bin/mkdir", p}
	g.write(i)
	return true
}

// writable is a folder that the user may put a file in, or empty.
func (g *generator) writable(s *stage) string {
	a := s.who()
	var dirs []string
	for _, p := range append(s.own(Folder), "/tmp", "/root", "/home/app", "/usr/local/bin") {
		if n := s.fs.reach(p, a); n != nil && n.kind == Folder && n.may(a, 3) && g.allowed(s, p+"/x") && p != "/home" {
			dirs = append(dirs, p)
		}
	}
	if len(dirs) == 0 {
		return ""
	}
	return pick(g, dirs...)
}

// out is a new file to write to. What makes the folder for it is added to commands.
func (g *generator) out(s *stage, commands *[]string) string {
	g.names++
	dir := g.writable(s)
	if a := s.who(); a.uid == 0 && (dir == "" || g.chance(0.6)) {
		dir = "/out"
		if s.fs.get(dir) == nil {
			*commands = append(*commands, "mkdir -p "+dir)
			s.add(dir, folder(0o755, 0, a.gid()))
		}
	}
	if dir == "" {
		return ""
	}
	p := path.Join(dir, fmt.Sprintf("o%d", g.names))
	a := s.who()
	if s.fs.put(p, &node{kind: Regular, mode: 0o644, uid: a.uid, gid: a.gid()}) != nil {
		return ""
	}
	return quoted(p)
}

// quoted is a path as a shell reads it.
func quoted(p string) string {
	if strings.ContainsAny(p, " $'\"[]*?\\&;()<>|`~#!") {
		return "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
	}
	return p
}

// commands are about n commands, whose effects the model has.
func (g *generator) commands(s *stage, n int) []string {
	var commands []string
	for range n {
		var c string
		g.one(
			option{30, func() bool { c = g.look(s, &commands); return c != "" }},
			option{14, func() bool { c = g.makeDir(s); return c != "" }},
			option{12, func() bool { c = g.makeFile(s); return c != "" }},
			option{7, func() bool { c = g.makeLink(s); return c != "" }},
			option{7, func() bool { c = g.takeAway(s); return c != "" }},
			option{6, func() bool { c = g.rename(s); return c != "" }},
			option{10, func() bool { c = g.change(s); return c != "" }},
			option{3, func() bool { c = g.addUser(s); return c != "" }},
			option{4, func() bool { c = g.control(s, &commands); return c != "" }},
		)
		if c != "" {
			commands = append(commands, c)
		}
	}
	return commands
}

// Variables that are not the build's: a shell sets them, or the sandbox.
const allButOurs = "env | grep -v -e ^HOSTNAME= -e ^SHLVL= -e ^_= -e ^PWD= -e ^OLDPWD= -e ^OTEL_ -e ^TRACE | sort"

// look writes to a file something that a command sees.
func (g *generator) look(s *stage, commands *[]string) string {
	name := "NOT_SET"
	if len(s.vars) > 0 {
		name = pick(g, s.vars...).name
	}
	seen := func(kinds ...Kind) string {
		if found := s.own(kinds...); len(found) > 0 {
			return quoted(pick(g, found...))
		}
		return "/tmp"
	}
	var c string
	g.one(
		option{10, func() bool {
			c = pick(g, `echo "$`+name+`"`, "echo $"+name, `printf '%s\n' "${`+name+`:-none}"`, `echo '$`+name+`' "\$`+name+`"`, `echo "a  b" c\ d`)
			return true
		}},
		option{6, func() bool { c = "id"; return true }},
		option{4, func() bool { c = "echo $(id -u):$(id -g) $(id -G)"; return true }},
		option{5, func() bool { c = "pwd"; return true }},
		option{2, func() bool { c = "umask"; return true }},
		option{6, func() bool { c = allButOurs; return true }},
		option{2, func() bool { c = pick(g, "echo ~", `echo "$HOME"`, "echo $#"); return true }},
		option{6, func() bool { c = "stat -c '%A %u:%g %n' " + seen(Folder) + " " + seen(Regular, Symlink); return true }},
		option{4, func() bool { c = "{ find " + seen(Folder) + " | sort; }"; return true }},
		option{3, func() bool { c = "ls -A " + seen(Folder); return true }},
		option{4, func() bool { c = "cat " + seen(Regular); return true }},
		option{2, func() bool { c = "readlink " + seen(Symlink); return true }},
		option{2, func() bool { // names of a file; those of a folder depend on how it is kept
			c = "stat -c %h " + seen(Regular)
			return len(s.own(Regular)) > 0
		}},
	)
	out := g.out(s, commands)
	if out == "" {
		return ""
	}
	if strings.HasPrefix(c, "echo") || strings.HasPrefix(c, "printf") {
		return c + " > " + out
	}
	if strings.Contains(c, " | ") || c == "id" || c == "pwd" || c == "umask" {
		return c + " > " + out
	}
	// A user may not be let in; then the file says so.
	return c + " > " + out + " 2>&1 || true"
}
