package generate

import (
	"slices"
	"strings"
)

// variable is one that ARG or ENV has set.
type variable struct {
	name, value string
	path        bool // the value can be part of a path
}

type variables []variable

func (v *variables) set(name, value string, isPath bool) {
	for i := range *v {
		if (*v)[i].name == name {
			(*v)[i].value, (*v)[i].path = value, isPath
			return
		}
	}
	*v = append(*v, variable{name, value, isPath})
}

func (v variables) has(name string) bool {
	return slices.ContainsFunc(v, func(x variable) bool { return x.name == name })
}

func (v variables) get(name string) (string, bool) {
	for _, x := range v {
		if x.name == name {
			return x.value, true
		}
	}
	return "", false
}

// word writes a value such that an instruction that resolves variables and quotes
// reads it again: mostly as it is, often by a variable that has a part of it, and
// seldom in another way.
func (g *generator) word(s *stage, value string) string {
	e := g.c.escape()
	if strings.ContainsAny(value, "\"'$\\`{}") {
		return strings.NewReplacer("$", e+"$", "'", e+"'", `"`, e+`"`).Replace(value)
	}
	if value == "" || strings.ContainsAny(value, " \t*?[") {
		return value
	}
	if fit := s.vars.in(value); len(fit) > 0 && g.chance(0.4) {
		return g.variableIn(pick(g, fit...), value)
	}
	if !g.chance(0.08) {
		return value
	}
	return g.disguise(s, value)
}

// disguise is another way to write a value.
func (g *generator) disguise(s *stage, value string) string {
	i := g.r.IntN(len(value))
	switch g.r.IntN(7) {
	case 0:
		return `"` + value + `"`
	case 1:
		return "'" + value + "'"
	case 2: // a backslash before a letter means the letter
		return value[:i] + g.c.escape() + value[i:]
	case 3:
		return value[:i] + `"` + value[i:] + `"`
	case 4:
		if w := g.variableAlone(s, value); w != "" {
			return w
		}
	}
	return "${NOT_SET:-" + value + "}"
}

// in are the variables whose value is a part of another.
func (v variables) in(value string) []variable {
	var fit []variable
	for _, x := range v {
		if x.path && x.value != "" && strings.Contains(value, x.value) {
			fit = append(fit, x)
		}
	}
	return fit
}

// variableIn replaces a part of the value by a variable that has it.
func (g *generator) variableIn(v variable, value string) string {
	before, after, _ := strings.Cut(value, v.value)
	ref := "${" + v.name + "}"
	if after == "" || strings.ContainsAny(after[:1], "/.-:") {
		ref = pick(g, "$"+v.name, ref)
	}
	switch g.r.IntN(10) {
	case 0:
		ref = "${" + v.name + ":-other}"
	case 1:
		ref = "${" + v.name + ":+" + v.value + "}"
	case 2:
		ref = `"` + ref + `"`
	}
	return before + ref + after
}

// variableAlone makes the value out of a variable that has another one; it is empty
// where there is none.
func (g *generator) variableAlone(s *stage, value string) string {
	var paths []variable
	for _, v := range s.vars {
		if v.path && v.value != "" {
			paths = append(paths, v)
		}
	}
	if len(paths) == 0 {
		return ""
	}
	v := pick(g, paths...)
	if rest, ok := strings.CutPrefix(v.value, value+"/"); ok {
		return "${" + v.name + "%/" + rest + "}"
	}
	return "${" + v.name + ":+" + value + "}"
}

// values are those of ENV, LABEL and ARG, as they are written for an escape
// character e. None has a result that the place of a quote could change.
func values(e string) []string {
	return []string{
		"1", "production", "v1.2.3", "a,b,c", "https://example.com/x?y=1", "key:value",
		`"two words"`, `'two words'`, "two" + e + " words", `""`, `''`, "",
		`"say ` + e + `"hi` + e + `""`, `"it's"`, `'{"a":"b"}'`, `'$NOT_EXPANDED'`,
		e + "$HOME", `"` + e + `$HOME"`, `pre"mid"post`, `"a=b"`, "a=b=c", "#no-comment",
		`"tab	here"`, `"  blanks  "`, "ümlaut", "100%", "[a]", "~", "*", "a;b", "a&&b", "<x>",
	}
}

// expression is a value that refers to variables, or is an odd literal.
func (g *generator) expression(s *stage) string {
	if len(s.vars) == 0 || g.chance(0.4) {
		return pick(g, values(g.c.escape())...)
	}
	v := pick(g, s.vars...)
	if g.chance(0.1) {
		v = variable{name: "NOT_SET"}
	}
	n := v.name
	return pick(g,
		"$"+n, "${"+n+"}", `"$`+n+`"`, `"${`+n+`} and more"`, "'${"+n+"}'",
		"pre-${"+n+"}-post", "$"+n+"/sub", "${"+n+":-fallback}", "${"+n+":+alternate}",
		"${"+n+"-fallback}", "${"+n+"+alternate}", "${NOT_SET:-${"+n+"}}", `"${NOT_SET:-a b}"`,
		"${"+n+"#*/}", "${"+n+"##*/}", "${"+n+"%/*}", "${"+n+"%%.*}", "${"+n+"/o/0}", "${"+n+"//o/0}",
		g.c.escape()+"$"+n, "$"+n+"$"+n, "${"+n+":+'quoted'}",
	)
}
