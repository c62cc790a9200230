package modules

import (
	"strings"
	"testing"
)

func TestAttributesMatchPaths(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"**/*.txt", "a.txt", true},
		{"**/*.txt", "a/b/c.txt", true},
		{"**/*.txt", "a/b/c.md", false},
		{"a/**", "a/b/c", true},
		{"a/**", "a", false},
		{"a/**/c", "a/c", true},
		{"a/**/c", "a/x/y/c", true},
		{"a/**/c", "a/x/y", false},
		{"a", "a/b", false},
		{"**", "a", true},
		{"**/**", "a", true},
		{"a/*/c", "a/b/c", true},
		{"a/*/c", "a/b/b/c", false},
		// What tries every way would try for longer than anybody waits.
		{strings.Repeat("**/", 60) + "x", strings.Repeat("a/", 60) + "y", false},
	} {
		if got := matches(strings.Split(tc.pattern, "/"), strings.Split(tc.name, "/")); got != tc.want {
			t.Errorf("%s matches %s: %v", tc.pattern, tc.name, got)
		}
	}
}
