package generate

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// New is the case of a seed, the same one each time.
func New(seed uint64) *Case {
	g := &generator{r: rand.New(rand.NewPCG(seed, 0x736c6970776179)), c: &Case{Seed: seed, BuildArgs: map[string]string{}}}
	if g.chance(0.03) {
		g.c.Escape = "`"
	}
	g.makeContext()
	g.makeStages()
	g.choose()
	g.finish()
	return g.c
}

// generator is a case in the making.
type generator struct {
	r       *rand.Rand
	c       *Case
	context *tree // as COPY sees it
	stages  []*stage
	names   int             // that have been given to files so far
	args    map[string]bool // names of ARGs so far
	globals variables
	used    map[int]bool // stages that another one has something of
}

func (g *generator) chance(p float64) bool { return g.r.Float64() < p }

func pick[T any](g *generator, from ...T) T { return from[g.r.IntN(len(from))] }

// option is something to do, as often as its weight says. It is false if it cannot
// be done now.
type option struct {
	weight float64
	do     func() bool
}

// one does one of the options that can be done.
func (g *generator) one(options ...option) bool {
	for len(options) > 0 {
		sum := 0.0
		for _, o := range options {
			sum += o.weight
		}
		at, n := g.r.Float64()*sum, 0
		for n < len(options)-1 && at >= options[n].weight {
			at -= options[n].weight
			n++
		}
		if options[n].do() {
			return true
		}
		options = slices.Delete(slices.Clone(options), n, n+1)
	}
	return false
}

// makeStages writes the Dockerfile.
func (g *generator) makeStages() {
	g.args, g.used = map[string]bool{}, map[int]bool{}
	stages := 1
	switch p := g.r.Float64(); {
	case p < 0.05:
		stages = 4
	case p < 0.2:
		stages = 3
	case p < 0.62:
		stages = 2
	}
	// From 4 to 14 instructions, the FROMs among them; most often 9 or so.
	total := 4 + g.r.IntN(6) + g.r.IntN(6)
	left := max(total-stages, stages+1)
	for n := range stages {
		share := left
		if n < stages-1 {
			share = 1 + g.r.IntN(max(2*left/(stages-n)-1, 1))
			share = min(share, left-(stages-n)) // the last one has two or more
		}
		left -= share
		g.stage(n, n == stages-1, share)
	}
}

// stage writes one stage, of so many instructions.
func (g *generator) stage(n int, final bool, size int) {
	out := Stage{Lower: g.chance(0.03)}
	s := g.from(&out, n, final)
	s.number, s.final, s.name = n, final, out.Name
	g.c.Stages = append(g.c.Stages, out)
	g.stages = append(g.stages, s)
	if !final && s.shell && g.chance(0.05) {
		g.set(s, "WORKDIR", "/workspace")
		_ = s.fs.mkdirAll("/workspace", 0o755, s.who().uid, s.who().gid())
		s.dir = "/workspace"
		size--
	}
	for len(g.body()) < size {
		g.instruction(s, size-len(g.body()))
	}
}

// body are the instructions of the stage that is written.
func (g *generator) body() []Instruction { return g.c.Stages[len(g.c.Stages)-1].Body }

// write appends an instruction to the stage.
func (g *generator) write(i Instruction) {
	last := &g.c.Stages[len(g.c.Stages)-1]
	last.Body = append(last.Body, i)
}

// set appends an instruction that is nothing but its words.
func (g *generator) set(s *stage, name string, words ...string) {
	g.write(Instruction{Name: name, Words: words, Lower: s.number%7 == 6})
}

// instruction writes one more. The last of an image tend to say what is run.
func (g *generator) instruction(s *stage, left int) {
	if s.final && left <= 2 && g.unused(s) && g.chance(0.8) && g.copy(s, false, true) {
		return
	}
	if s.final && left <= 2 && !s.entry && g.chance(0.7) {
		g.command(s, pick(g, "ENTRYPOINT", "CMD", "CMD"))
		return
	}
	run, add, about := 0.0, 4.0, 1.0
	if !s.final { // what is run there is nobody's business
		about = 0.3
	}
	if s.canRun() {
		run = 24
	}
	if slices.ContainsFunc(g.c.Files, func(f File) bool { return f.Archive != nil }) {
		add = 12
	}
	can := func(weight float64, do func(*stage) bool) option {
		return option{weight, func() bool { return do(s) }}
	}
	does := func(weight float64, do func(*stage)) option {
		return option{weight, func() bool { do(s); return true }}
	}
	g.one(
		can(26, func(s *stage) bool { return g.copy(s, false, false) }),
		can(add, func(s *stage) bool { return g.copy(s, true, false) }),
		can(run, g.run),
		does(9, g.env),
		does(7, g.arg),
		can(8, g.workdir),
		does(6, g.switchUser),
		does(4*about, g.label),
		does(3*about, g.expose),
		does(2*about, func(s *stage) { g.command(s, pick(g, "ENTRYPOINT", "CMD")) }),
		does(3*about, g.volume),
		does(1.5*about, g.healthcheck),
		does(1.5, g.setShell),
		does(1*about, g.stopSignal),
		can(1.5, g.onBuild),
	)
}

// unused tells whether there is a stage that nothing is copied from.
func (g *generator) unused(s *stage) bool {
	for n := range s.number {
		if !g.used[n] {
			return true
		}
	}
	return false
}

// from begins a stage upon an image or upon an earlier stage.
func (g *generator) from(out *Stage, n int, final bool) *stage {
	if !final || g.chance(0.15) {
		out.Name = pick(g, "build", "builder", "base", "deps", "build-env", "stage.one", "final", "runtime")
		for slices.ContainsFunc(g.stages, func(s *stage) bool { return strings.EqualFold(s.name, out.Name) }) {
			out.Name += "2"
		}
		if g.chance(0.04) {
			out.Name = strings.ToUpper(out.Name[:1]) + out.Name[1:]
		}
		if !final && g.chance(0.12) {
			out.Name = "" // it has a number
		}
	}
	if g.chance(0.08) {
		out.Platform = pick(g, "$BUILDPLATFORM", "$TARGETPLATFORM", "${BUILDPLATFORM}", "${TARGETPLATFORM:-linux/amd64}")
	}
	if n > 0 && g.chance(0.16) {
		// What is in /workspace stays in the build pod: no stage of the image has it.
		if earlier := pick(g, g.stages...); earlier.name != "" && earlier.fs.get("/workspace") == nil {
			// A base's name is in small letters, even that of a stage.
			out.Base, out.Platform = strings.ToLower(earlier.name), ""
			g.used[earlier.number] = true
			return earlier.clone()
		}
	}
	base := "scratch"
	g.one(
		option{0.16, func() bool { return final && n > 0 }},
		option{0.03, func() bool { return true }},
		option{0.12, func() bool { base = "busybox"; return true }},
		option{0.42, func() bool { base = "alpine:users"; return true }},
		option{0.07, func() bool { base = "alpine:app"; return true }},
		option{0.06, func() bool { base = "alpine:env"; return true }},
		option{0.05, func() bool { base = "alpine:volume"; return true }},
		option{0.10, func() bool { base = "alpine:odd"; return true }},
		option{0.03, func() bool { base = "alpine:onbuild"; return true }},
		option{0.04, func() bool { base = "alpine:configured"; return true }},
		option{0.02, func() bool { base = "tiny"; return final }},
	)
	out.Base = base
	if base == "scratch" {
		out.Platform = ""
	}
	if len(g.stages) == 0 || g.chance(0.3) {
		g.baseByArg(out, base)
	}
	return newStage(base)
}

// baseByArg names the base by an ARG before the first FROM.
func (g *generator) baseByArg(out *Stage, base string) {
	if !g.chance(0.15) {
		return
	}
	name, tag, tagged := strings.Cut(base, ":")
	variable, value := "BASE", base
	out.Base = pick(g, "$BASE", "${BASE}", "${BASE:-busybox}")
	if tagged && g.chance(0.6) {
		variable, value = "TAG", tag
		out.Base = name + pick(g, ":$TAG", ":${TAG}", ":${TAG:-users}")
	}
	if old, ok := g.globals.get(variable); ok {
		if old != value {
			out.Base = base
		}
		return
	}
	// Where the build has an argument the default is another base, which is not used.
	i := Instruction{Name: "ARG", Words: []string{variable + "=" + value}}
	if g.chance(0.3) {
		g.c.BuildArgs[variable] = value
		i.Words[0] = variable + "=" + pick(g, "busybox", "nothing", "")
		if g.chance(0.3) {
			i.Words[0] = variable
		}
	}
	if g.chance(0.3) {
		i.Words = append(i.Words, `VERSION="1.2.3"`)
		g.globals.set("VERSION", "1.2.3", true)
	}
	g.globals.set(variable, value, true)
	g.c.Globals = append(g.c.Globals, i)
}

// choose decides which stage is built.
func (g *generator) choose() {
	if !g.chance(0.08) {
		return
	}
	if s := pick(g, g.stages...); s.name != "" {
		g.c.Target = s.name
	}
}

// finish is about how it is written, which must not change anything.
func (g *generator) finish() {
	for n := range g.c.Stages {
		body := g.c.Stages[n].Body
		for k := range body {
			i := &body[k]
			i.Lower = i.Lower || g.chance(0.02)
			if g.chance(0.04) {
				i.Comment = pick(g, "as root", "RUN false", "syntax is no directive here", "it's a \"comment\" \\")
			}
			long := len(i.Words)+len(i.Flags) > 2 || i.Glue != "" && len(i.Words) > 1
			splits := i.Name != "ENV" && i.Name != "LABEL" || strings.Contains(i.Words[0], "=")
			if long && splits && i.Name != "HEALTHCHECK" && (i.Glue != "" && g.chance(0.5) || g.chance(0.12)) {
				i.Breaks = true
				if g.chance(0.15) {
					i.Inside = pick(g, "between two lines", "&& false", "it's \\")
				}
			}
		}
	}
	docs := func(s Stage) bool {
		return slices.ContainsFunc(s.Body, func(i Instruction) bool { return len(i.Docs) > 0 })
	}
	if g.chance(0.01) && !slices.ContainsFunc(g.c.Stages, docs) {
		g.c.CRLF = true
	}
}
