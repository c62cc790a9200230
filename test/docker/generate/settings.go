package generate

import (
	"path"
	"slices"
	"strings"
)

// Values that can be part of a path, by the variables that have them.
var pathValues = map[string][]string{
	"APP_DIR":   {"/app", "/srv/app", "/opt/app"},
	"DATA_DIR":  {"/data", "/var/lib/app"},
	"PREFIX":    {"/usr/local", "/opt"},
	"CONF":      {"/etc/app", "/app/conf"},
	"NAME":      {"server", "app", "tool"},
	"VERSION":   {"1.2.3", "2.0"},
	"PORT":      {"8080", "9090"},
	"APP_UID":   {"1000", "1234"},
	"OWNER":     {"app", "root"},
	"FILE_MODE": {"0640", "755"},
}

var (
	pathNames  = []string{"APP_DIR", "DATA_DIR", "PREFIX", "CONF", "NAME", "NAME", "VERSION", "PORT", "APP_UID", "OWNER", "FILE_MODE"}
	otherNames = []string{"MODE", "MSG", "GREETING", "CGO_ENABLED", "LANG", "A", "B", "empty", "Mixed_Case"}
)

// env is an ENV of one to three variables. All of them see those from before it.
func (g *generator) env(s *stage) {
	if g.chance(0.08) { // the form without an equals sign
		name := pick(g, otherNames...)
		g.set(s, "ENV", name, pick(g, "some words", "one", `"quoted words"`, "a=b", "with $PATH", "it"+g.c.escape()+"'s"))
		s.vars.set(name, "", false)
		return
	}
	i := Instruction{Name: "ENV"}
	after := slices.Clone(s.vars)
	for range 1 + g.r.IntN(2)*g.r.IntN(3) {
		name, word, value, isPath := g.assignment(s)
		if g.chance(0.1) && s.shell {
			name, word, value, isPath = "PATH", pick(g, "/app/bin:$PATH", "$PATH:/opt/bin", `"${PATH}:/go/bin"`), "", false
		}
		if s.user == "" && g.chance(0.02) {
			name, word, value, isPath = "HOME", "/home/app", "/home/app", true
		}
		i.Words = append(i.Words, name+"="+word)
		after.set(name, value, isPath)
	}
	s.vars = after
	g.write(i)
}

// assignment is a name, and a value as it is written and as it is if that is known.
func (g *generator) assignment(s *stage) (name, word, value string, isPath bool) {
	if g.chance(0.55) {
		name = pick(g, pathNames...)
		value = pick(g, pathValues[name]...)
		return name, g.word(s, value), value, true
	}
	name = pick(g, otherNames...)
	if len(s.vars) > 0 && g.chance(0.25) {
		if v := pick(g, s.vars...); v.name != "PATH" && v.name != "HOME" { // set once more
			name = v.name
		}
	}
	return name, g.expression(s), "", false
}

// arg is an ARG, with or without a default, which the build's arguments may replace.
func (g *generator) arg(s *stage) {
	if g.chance(0.12) {
		words := []string{"TARGETOS", "TARGETARCH"}
		if g.chance(0.4) {
			words = []string{pick(g, "TARGETPLATFORM", "BUILDPLATFORM", "TARGETVARIANT", "BUILDARCH")}
		}
		for _, w := range words {
			s.vars.set(w, "", false)
		}
		g.set(s, "ARG", words...)
		return
	}
	if len(g.globals) > 0 && g.chance(0.3) {
		v := pick(g, g.globals...)
		g.set(s, "ARG", v.name)
		s.vars.set(v.name, v.value, true)
		g.args[v.name] = true
		return
	}
	i := Instruction{Name: "ARG"}
	for range 1 + g.r.IntN(2)*g.r.IntN(2) {
		i.Words = append(i.Words, g.argWord(s))
	}
	g.write(i)
}

func (g *generator) argWord(s *stage) string {
	name, word, value, isPath := g.assignment(s)
	inherited, global := g.globals.get(name)
	if _, ok := g.c.BuildArgs[name]; !ok && !g.args[name] && !global && g.chance(0.3) {
		// The build has another value.
		given := pick(g, "given", "v9", "two words", "", "a=b", `"quoted"`, "$PATH")
		if values, ok := pathValues[name]; ok {
			given = pick(g, values...)
		}
		g.c.BuildArgs[name] = given
	}
	g.args[name] = true
	given, ok := g.c.BuildArgs[name]
	_, known := pathValues[name]
	switch noDefault := g.chance(0.25); {
	case ok:
		s.vars.set(name, given, known)
		if noDefault {
			return name
		}
	case noDefault && global:
		s.vars.set(name, inherited, true)
		return name
	case noDefault: // a variable of that name keeps its value
		return name
	default:
		s.vars.set(name, value, isPath)
	}
	return name + "=" + word
}

func (g *generator) label(s *stage) {
	if g.chance(0.06) {
		g.set(s, "LABEL", "legacy", pick(g, "some words", `"quoted"`, "one"))
		return
	}
	i := Instruction{Name: "LABEL"}
	for range 1 + g.r.IntN(3) {
		key := pick(g, "maintainer", "org.opencontainers.image.title", "org.opencontainers.image.version",
			`"com.example.quoted"`, "com.example/slash", "t", "p", "j", `"two words"`)
		if len(s.vars) > 0 && g.chance(0.05) {
			key = "of." + pick(g, s.vars...).name
		}
		value := g.expression(s)
		if g.chance(0.2) {
			e := g.c.escape()
			value = pick(g, `"My `+e+`"app`+e+`""`, `"it's"`, `'{"a":"b"}'`, `"{`+e+`"a`+e+`":1}"`, `'$A'`, `"two words"`)
		}
		i.Words = append(i.Words, key+"="+value)
	}
	g.write(i)
}

func (g *generator) expose(s *stage) {
	i := Instruction{Name: "EXPOSE"}
	for range 1 + g.r.IntN(2)*g.r.IntN(3) {
		w := g.word(s, pick(g, "8080", "8080", "80", "443/tcp", "53/udp", "9090"))
		switch {
		case g.chance(0.15):
			w = pick(g, "8000-8002", "7000-7001/udp", "8080/TCP", "3868/sctp")
		case s.vars.has("PORT") && g.chance(0.6):
			if v, _ := s.vars.get("PORT"); v != "" {
				w = pick(g, "$PORT", "${PORT}", "${PORT}/tcp", "$PORT/udp")
			}
		}
		i.Words = append(i.Words, w)
	}
	g.write(i)
}

func (g *generator) switchUser(s *stage) {
	users := []string{"1000", "1000:1000", "1234:5678", "65532:65532", "0"}
	if s.shell {
		users = append(users, "nobody", "root")
	} else {
		users = append(users, "nonroot", "app:docker")
	}
	if _, ok := s.users["app"]; ok {
		users = append(users, "app", "app", "app", "app:app", "app:docker", "1000:docker", "app:4242")
	}
	if _, ok := s.users["svc"]; ok {
		users = append(users, "svc", "svc", "svc", "svc:svc", "svc", "svc", "svc")
	}
	if v, _ := s.vars.get("OWNER"); v == "app" && s.users["app"].uid != 0 && g.chance(0.7) {
		users = []string{"app", "app:docker"}
	}
	if v, _ := s.vars.get("APP_UID"); v != "" && g.chance(0.7) {
		users = []string{v, v + ":" + v}
	}
	user := pick(g, users...)
	if s.user != "" && s.who().uid != 0 && g.chance(0.5) {
		user = pick(g, "root", "0", "0:0")
		if !s.shell {
			user = "0"
		}
	}
	g.set(s, "USER", g.word(s, user))
	s.user = user
}

func (g *generator) workdir(s *stage) bool {
	p := pick(g, "/app", "/srv/app", "/opt/x/y/", "sub", "./rel", "/data", "/usr/src/app", "/home/app", "..", "/", "deep/er")
	if found := s.own(Folder, Symlink); len(found) > 0 && g.chance(0.3) {
		p = pick(g, found...)
	}
	for _, v := range s.vars {
		if v.path && path.IsAbs(v.value) && g.chance(0.5) {
			p = v.value
		}
	}
	to := path.Join(s.dir, p)
	if path.IsAbs(p) {
		to = path.Clean(p)
	}
	files := s.fs.clone()
	if !g.allowed(s, to) || files.mkdirAll(to, 0o755, s.who().uid, s.who().gid()) != nil {
		return false
	}
	w := g.word(s, p)
	if g.chance(0.02) {
		to, w = to+"/with blank", p+"/with blank"
		_ = files.mkdirAll(to, 0o755, s.who().uid, s.who().gid())
	}
	s.fs, s.dir = files, path.Clean(to)
	g.set(s, "WORKDIR", w)
	return true
}

func (g *generator) volume(s *stage) {
	i := Instruction{Name: "VOLUME", JSON: g.chance(0.4)}
	for range 1 + g.r.IntN(2)*g.r.IntN(2) {
		p := pick(g, "/data", "/var/lib/app", "/cache", "/etc/app", "/app", "/logs/")
		if found := s.own(Folder); len(found) > 0 && g.chance(0.3) {
			p = pick(g, found...)
		}
		i.Words = append(i.Words, g.word(s, p))
		s.volumes = append(s.volumes, p)
	}
	g.write(i)
}

func (g *generator) healthcheck(*stage) {
	i := Instruction{Name: "HEALTHCHECK", Words: []string{"NONE"}}
	if !g.chance(0.15) {
		i.Keyword = "CMD"
		i.Words = []string{pick(g, "wget -q localhost || exit 1", "/bin/check $PORT", `test "$A" = 'b'`)}
		if g.chance(0.5) {
			i.JSON, i.Words = true, []string{"/bin/check", pick(g, "-v", "$PORT", `"x"`)}
		}
		for _, f := range []string{"--interval=" + pick(g, "30s", "1m30s", "500ms"), "--timeout=3s", "--start-period=5s", "--start-interval=2s", "--retries=" + pick(g, "3", "0")} {
			if g.chance(0.4) {
				i.Flags = append(i.Flags, f)
			}
		}
	}
	g.write(i)
}

func (g *generator) setShell(s *stage) {
	i := Instruction{Name: "SHELL", JSON: true, Words: []string{"/bin/bash", "-o", "pipefail", "-c"}}
	if s.shell {
		shells := [][]string{{"/bin/sh", "-ec"}, {"/bin/sh", "-e", "-c"}, {"/bin/ash", "-o", "pipefail", "-c"}, {"/bin/busybox", "sh", "-c"}, {"sh", "-fc"}}
		i.Words = pick(g, shells...)
	}
	g.write(i)
}

func (g *generator) stopSignal(s *stage) {
	g.set(s, "STOPSIGNAL", g.word(s, pick(g, "SIGTERM", "SIGINT", "9", "SIGRTMIN+3", "KILL")))
}

// command is an ENTRYPOINT or a CMD.
func (g *generator) command(s *stage, name string) {
	i := Instruction{Name: name, JSON: true}
	switch p := g.r.Float64(); {
	case p < 0.6:
		i.Words = []string{pick(g, "/app/server", "/bin/sh", "server", "./run.sh")}
		if g.chance(0.5) {
			i.Words = append(i.Words, pick(g, "--port=8080", "-c", "$PORT", `say "hi"`, "<in>", `C:\x`))
		}
	case p < 0.65:
		i.Words = []string{}
	default:
		i.JSON = false
		i.Words = []string{pick(g, "/app/server", "exec server --port $PORT", `echo "a b" && exit 1`, `['not json']`, `server \"x\"`, "sh -c 'echo $0'")}
	}
	s.entry = true
	g.write(i)
}

// onBuild is a trigger: it is for a stage, or an image, that begins with this one.
func (g *generator) onBuild(s *stage) bool {
	i := Instruction{OnBuild: true}
	effect := func(*stage) {}
	switch g.r.IntN(6) {
	case 0:
		i.Name, i.Words = "ENV", []string{"FROM_TRIGGER=" + pick(g, "yes", `"two words"`, "$PATH")}
	case 1:
		i.Name, i.Words, i.Glue = "RUN", []string{"mkdir -p /tmp/onbuild", "id > /tmp/onbuild/id"}, "&&"
	case 2:
		p := pick(g, g.c.Files...).Path
		if g.context.get(p) == nil || strings.ContainsAny(p, " *?[$'") {
			return false
		}
		i.Name, i.Words = "COPY", []string{p, "/onbuild/"}
		effect = func(s *stage) {
			_ = transfer{from: g.context, sources: []string{p}, dest: "/onbuild/"}.apply(s.fs)
		}
	case 3:
		i.Name, i.Words = "WORKDIR", []string{"/onbuild/dir"}
		effect = func(s *stage) {
			_ = s.fs.mkdirAll("/onbuild/dir", 0o755, 0, 0)
			s.dir = "/onbuild/dir"
		}
	case 4:
		i.Name, i.Words = "LABEL", []string{`trigger="it's"`}
	case 5:
		i.Name, i.Words = "ARG", []string{"TRIGGER=1"}
		effect = func(s *stage) { s.vars.set("TRIGGER", "1", true) }
	}
	s.triggers = append(s.triggers, effect)
	g.write(i)
	return true
}
