package operation

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHidden(t *testing.T) {
	t.Parallel()
	c := &keeper{hidden: []string{"/proc", "/workspace/source", "/tekton/*/x", "/var/run"}}
	for at, skipped := range map[string]bool{
		"/": false, "/proc": true, "/proc/self/exe": true, "/procs": false, "/workspace": false, "/workspace/source/a": true,
		"/tekton": false, "/tekton/a": false, "/tekton/a/x": true, "/tekton/a/x/y": true, "/tekton/a/b/x": false, "/var/run/x": true,
	} {
		if got := c.skipped(at); got != skipped {
			t.Errorf("%s is skipped: %t", at, got)
		}
	}
	for _, tc := range []struct {
		pattern, folder, inside string
		ok                      bool
	}{
		{"/proc", "/", "proc", true},
		{"/workspace/source", "/workspace", "source", true},
		{"/workspace/source", "/work", "source", false},
		{"/tekton/*/x", "/tekton/a", "x", true},
		{"/tekton/*/x", "/tekton", "*/x", true},
		{"/a/b", "/a/b", "", true},
		{"/a", "/a/b", "", false},
	} {
		if inside, ok := below(tc.pattern, tc.folder); ok != tc.ok || ok && inside != tc.inside {
			t.Errorf("%s below %s: %q, %t", tc.pattern, tc.folder, inside, ok)
		}
	}
}

// A pattern is resolved as the copy that follows does it: links are followed up
// to the first element with a special character.
func TestMatches(t *testing.T) {
	t.Parallel()
	dir := tree(t, "d/a1", "d/a2", "d/b", "d/sub/a3", "e/sub/a4", "link -> d", "d/linked -> sub", "d/hidden/a5")
	c := &keeper{hidden: []string{dir + "/d/hidden"}}
	for pattern, want := range map[string][]string{
		"/d/a*":      {"/d/a1", "/d/a2"},
		"/link/a*":   {"/link/a1", "/link/a2"},
		"/d/a[2-9]":  {"/d/a2"},
		"/*/sub/a?":  {"/d/sub/a3", "/e/sub/a4"},
		"/d/*/a*":    {"/d/sub/a3"},
		"/d/h*":      nil,
		"/d/z*":      nil,
		"/absent/z*": nil,
		"/d/a1/*":    nil,
		"/d/b":       {"/d/b"},
	} {
		var full []string
		for _, one := range want {
			full = append(full, dir+one)
		}
		got := c.matches(dir + pattern)
		slices.Sort(got)
		if !slices.Equal(got, full) {
			t.Errorf("%s: %q, want %q", pattern, got, full)
		}
	}
	for part, want := range map[string]bool{"a": false, "*": true, "a?": true, "[a]": true, `\*`: false, `\\*`: true, `a\`: false} {
		if got := hasSpecial(part); got != want {
			t.Errorf("%s is a pattern: %t", part, got)
		}
	}
}

// TestKeep: what later stages copy, with the links that lead to it and without
// what kaniko's container has there.
func TestKeep(t *testing.T) {
	t.Parallel()
	dir := tree(t, "bin/app 755", "bin/other", "lib/ 711", "lib/a", "lib/mounted/x", "lib/kept/y", "usr -> bin", "abs -> "+"REPLACED", "chain -> usr/app", "broken -> nothing", "loop -> loop", "home/ 700", "home/.config/hidden/x", "of-image/.config/hidden/x")
	must(t, errors.Join(os.Remove(dir+"/abs"), os.Symlink(dir+"/lib", dir+"/abs")))
	hidden := []string{dir + "/lib/mounted", dir + "/home/.config/hidden", dir + "/of-image/.config/hidden"}
	left := leftOver{}
	for _, folder := range []string{"/home", "/home/.config", "/of-image", "/of-image/.config"} {
		changed, err := changedAt(dir + folder)
		must(t, err)
		left[dir+folder] = changed
	}
	must(t, os.Chmod(dir+"/of-image", 0o750)) // as an image has it
	for name, tc := range map[string]struct {
		paths    []string
		wildcard bool
		want     []string
		err      string
	}{
		"a file":              {paths: []string{"/bin/app"}, want: []string{"bin/", "bin/app 755"}},
		"a folder":            {paths: []string{"/lib"}, want: []string{"lib/ 711", "lib/a", "lib/kept/", "lib/kept/y"}},
		"through a link":      {paths: []string{"/usr/app"}, want: []string{"bin/", "bin/app 755", "usr -> bin"}},
		"an absolute link":    {paths: []string{"/abs/a"}, want: []string{"abs -> DIR/lib", "lib/ 711", "lib/a"}},
		"a link to a link":    {paths: []string{"/chain"}, want: []string{"bin/", "bin/app 755", "chain -> usr/app", "usr -> bin"}},
		"a link to nothing":   {paths: []string{"/broken"}, want: []string{"broken -> nothing"}},
		"a link to itself":    {paths: []string{"/loop"}, err: "too many levels of symbolic links"},
		"nothing":             {paths: []string{"/absent", "/bin/app/x"}, want: []string{"bin/"}},
		"what is hidden":      {paths: []string{"/lib/mounted/x", "/lib/mounted"}, want: []string{"lib/ 711"}},
		"around what is":      {paths: []string{"/home", "/home/.config"}, want: []string{}},
		"and is an image's":   {paths: []string{"/of-image"}, want: []string{"of-image/ 750"}},
		"a pattern of both":   {paths: []string{"/[ho][of]*"}, wildcard: true, want: []string{"of-image/ 750"}},
		"the same twice":      {paths: []string{"/bin/app", "/bin", "/bin/app"}, want: []string{"bin/", "bin/app 755", "bin/other"}},
		"a pattern":           {paths: []string{"/bin/o*"}, wildcard: true, want: []string{"bin/", "bin/other"}},
		"a pattern of a link": {paths: []string{"/usr/o*"}, wildcard: true, want: []string{"bin/", "bin/other", "usr -> bin"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept := t.TempDir()
			c := &keeper{kept: kept, hidden: hidden, left: left}
			var err error
			for _, p := range tc.paths {
				matches := []string{dir + p}
				if tc.wildcard {
					matches = c.matches(dir + p)
				}
				for _, match := range matches {
					err = errors.Join(err, c.keep(t.Context(), match, 0, true))
				}
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %s", err, tc.err)
				}
				return
			}
			must(t, err)
			got := []string{}
			for _, entry := range listed(t, filepath.Join(kept, dir)) {
				entry, _, _ = strings.Cut(strings.ReplaceAll(entry, dir, "DIR"), " = ")
				got = append(got, entry)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The digest is of all that a copy may take, and not of times.
func TestDigestOfWhatIsKept(t *testing.T) {
	t.Parallel()
	entries := []string{"d/a", "d/l -> a"}
	dir := tree(t, entries...)
	before, err := digestOf(dir)
	must(t, err)
	must(t, os.Chtimes(dir+"/d/a", time.Unix(1, 0), time.Unix(1, 0)))
	if same, err := digestOf(dir); err != nil || same != before {
		t.Errorf("with other times: %s, %v", same, err)
	}
	for name, change := range map[string]func(dir string) error{
		"content": func(dir string) error { return os.WriteFile(dir+"/d/a", []byte("b/a"), 0o644) },
		"mode":    func(dir string) error { return os.Chmod(dir+"/d/a", 0o755) },
		"name":    func(dir string) error { return os.Rename(dir+"/d/a", dir+"/d/b") },
		"link":    func(dir string) error { return errors.Join(os.Remove(dir+"/d/l"), os.Symlink("b", dir+"/d/l")) },
		"more":    func(dir string) error { return os.Mkdir(dir+"/e", 0o755) },
	} {
		dir := tree(t, entries...)
		must(t, change(dir))
		if after, err := digestOf(dir); err != nil || after == before {
			t.Errorf("another %s: %s, %v", name, after, err)
		}
	}
}
