package buildcontext_test

import (
	"bytes"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/slipway-ci/slipway/internal/buildcontext"
)

func TestPatterns(t *testing.T) {
	t.Parallel()
	names := []string{
		"a", "a.b", "aXb", "a+b", "(a)", "{a}", "a|b", "$a", "a$", "a/b", "a/b.c", "ü", "日本", "a b", "a\tb", "a\nb", "-a", "#a", ".a", "..a", "a..",
		"*", "**", "a*", "*a", "**a", "a**", "a/**", "a/*/b", "a/x/b", "?", "??", "a?", "[", "]", "[a]", "[!a]", "[^a]", "[a-z]", "a]", "a[", "[]", "[[:alpha:]]", "a]^b",
		`\`, `\\`, `a\`, `\a`, `a\b`, `\*`, `a\*b`, `\d`, "^", "^a", "a^", "a^*", "^*$", "a*.b", "aX.b", "a*+",
		" |", "|*", "*|", "a{2}*", "aa*", "*{", "}*", "{1}[", "*.", "*+a", "($)*", "*a$",
		"!", "!a", "!!a", "a!", "!*", "x/!a", "!/a", " !a",
		" ", "  ", " a", "a ", " a ", "  a  ", "\ta", "a\n", "\na", "\r", "a\r", "a/ ", " /a", " / ", "a/ /b", "\u00a0", "\u00a0a", "a\u2028", "\u0085a*", " *", "* ", " \\", "\\ ", " ]", "] ",
		"\ufeff", "\ufeffa", "\ufeffa*", "\ufeff ", "a\ufeff*", "*\ufeff",
		"\x85", "\xa0a", "\xff", "a\xff", "a\xfe", "a\ufffd",
	}
	under := func(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }
	for i, pattern := range buildcontext.Patterns(names) {
		m, err := patternmatcher.New([]string{pattern})
		if err != nil {
			t.Errorf("%q is %q: %v", names[i], pattern, err)
			continue
		}
		for _, other := range slices.Concat(names, []string{names[i] + "/below", names[i] + "x", "x" + names[i], "x/" + names[i]}) {
			if got, err := m.MatchesOrParentMatches(other); err != nil || got != under(other, names[i]) {
				t.Errorf("%q is %q: matches %q: %t, %v", names[i], pattern, other, got, err)
			}
		}
		// So do ignore files, unless a name has two lines.
		read, err := ignorefile.ReadAll(bytes.NewReader([]byte("\n" + strings.TrimPrefix(pattern, "#") + "\n")))
		if !strings.ContainsAny(names[i], "\n#") && (err != nil || !slices.Equal(read, []string{pattern})) {
			t.Errorf("%q is %q, which an ignore file has as %q: %v", names[i], pattern, read, err)
		}
	}
	// Together they are no exceptions of each other.
	all, err := patternmatcher.New(buildcontext.Patterns(names))
	if err != nil || all.Exclusions() {
		t.Errorf("there are exceptions among them: %v", err)
	}
	if got := buildcontext.Patterns([]string{"a/b.c", "a b^c+(d)"}); !slices.Equal(got, []string{"a/b.c", "a b^c+(d)"}) {
		t.Errorf("%q are escaped without need", got)
	}
}

func FuzzPatterns(f *testing.F) {
	for _, name := range []string{"a", " *", "!a", `\`, "a]^", "\ufeff*"} {
		f.Add(name, "a")
	}
	f.Fuzz(func(t *testing.T, name, other string) {
		if !sound(name) || !sound(other) {
			return // no path
		}
		pattern := buildcontext.Patterns([]string{name})
		for _, other := range []string{name, other} {
			got, err := patternmatcher.MatchesOrParentMatches(other, pattern)
			if want := other == name || strings.HasPrefix(other, name+"/"); err != nil || got != want {
				t.Errorf("%q is %q: matches %q: %t, %v", name, pattern, other, got, err)
			}
		}
	})
}

// sound says whether a clean relative path can be exact.
func sound(name string) bool {
	return name != "" && name != "." && name == path.Clean(name) && filepath.IsLocal(name) && !strings.Contains(name, "\x00") && utf8.ValidString(name)
}
