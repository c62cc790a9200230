package operation

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestClear: only what is ignored stays, and the folders above, which are as COPY
// makes a folder.
func TestClear(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	dir := tree(t, "tmp/ 777", "tmp/x", "etc/ 700", "etc/resolv.conf", "etc/passwd", "go/ 777", "go/pkg/ 777", "go/pkg/mod -> /elsewhere", "go/src/x",
		"mounted/in/empty/", "mounted/other", "var/lib/x", "other/ 711", "other/x/y", "link -> go", "file")
	must(t, os.Chown(filepath.Join(dir, "go"), 65532, 65532))
	left, err := clearBelow(dir, []string{"/go/pkg/mod", "/mounted/in", "/mounted/in/empty/x", "/etc/resolv.conf", "/absent/x", "/link/x", "/var/*/y"})
	must(t, err)
	want := []string{"etc/", "etc/resolv.conf", "go/", "go/pkg/ 777", "go/pkg/mod -> /elsewhere", "mounted/", "mounted/in/", "mounted/in/empty/"}
	if diff := cmp.Diff(want, listed(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/etc", "/go", "/go/pkg", "/mounted"}, slices.Sorted(maps.Keys(left))); diff != "" {
		t.Errorf("left over (-want +got):\n%s", diff)
	}
}

// A folder is left over until anything about it changes, or something that is
// not hidden is below it.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(dir string) error
		left   bool
	}{
		"as it is":                   {func(string) error { return nil }, true},
		"its mode, even to the same": {func(dir string) error { return os.Chmod(dir+"/go", 0o755) }, false},
		"a file in it":               {func(dir string) error { return os.WriteFile(dir+"/go/x", nil, 0o644) }, false},
		"a file further down":        {func(dir string) error { return os.WriteFile(dir+"/go/pkg/x", nil, 0o644) }, false},
		"a hidden file":              {func(dir string) error { return os.WriteFile(dir+"/go/pkg/mod/x", nil, 0o644) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, "go/pkg/mod/")
			k := &keeper{hidden: []string{dir + "/go/pkg/mod"}, left: leftOver{}}
			for _, folder := range []string{dir + "/go", dir + "/go/pkg"} {
				changed, err := changedAt(folder)
				must(t, err)
				k.left[folder] = changed
			}
			must(t, tc.change(dir))
			if got := k.isLeft(dir + "/go"); got != tc.left {
				t.Errorf("it is left over: %t", got)
			}
		})
	}
}
