package operation

import (
	"strings"
	"testing"
)

func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := tree(t, "one/tool", "two/tool 755", "two/folder/ 755", "three/tool 755")
	searched := strings.Join([]string{dir + "/absent", dir + "/one", dir + "/two", dir + "/three"}, ":")
	if got, err := lookPath("tool", searched); err != nil || got != dir+"/two/tool" {
		t.Errorf("got %s, %v", got, err)
	}
	for _, name := range []string{"folder", "absent"} {
		if got, err := lookPath(name, searched); err == nil {
			t.Errorf("%s is %s", name, got)
		}
	}
	if got, err := lookPath("./tool", ""); err != nil || got != "./tool" {
		t.Errorf("a path is %s, %v", got, err)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"0": 0, "root": 0, "65532": 65532, "4294967295": 4294967295} {
		if got, err := number(name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "app", "7x", "07", "-1", "+1", " 1", "4294967296"} {
		if got, err := number(name); err == nil {
			t.Errorf("%q: %d", name, got)
		}
	}
}
