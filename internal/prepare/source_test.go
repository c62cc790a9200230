package prepare

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSourceHas(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, name := range []string{"rootfs/etc/app.conf", "rootfs/workspace/a.txt", "ignored/a.txt", "emptied/a.txt", "partly/a.txt", "partly/b.txt"} {
		if err := os.MkdirAll(filepath.Join(folder, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	parsed, err := parseIgnore(".dockerignore", []byte("ignored\nemptied/**\npartly/*\n!partly/b.txt\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, ignore := range []*ignore{nil, parsed} {
		s := &source{context: folder, ignore: ignore}
		for name, want := range map[string]bool{
			"rootfs/workspace": true, "rootfs/etc/app.conf": true, "rootfs": true, "partly": true,
			"absent": false, "rootfs/absent/deeper": false, "rootfs/etc/app.conf/deeper": false, "empty": false,
			"ignored": ignore == nil, "ignored/a.txt": ignore == nil, "emptied": ignore == nil, "partly/a.txt": ignore == nil,
		} {
			if got := s.has(name); got != want {
				t.Errorf("with .dockerignore %t, has %s: %t", ignore != nil, name, got)
			}
		}
	}
}
