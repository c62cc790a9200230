package logins_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-ci/slipway/internal/logins"
)

// secretVolume is as the kubelet mounts a secret.
func secretVolume(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..2026"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026", filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, "..2026", name), []byte(content), 0o400); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPushFindsWhatPrepareHad(t *testing.T) {
	t.Parallel()
	f := logins.Folder(t.TempDir())
	if err := f.Leave(secretVolume(t, map[string]string{"config.json": "a login"}), secretVolume(t, nil)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(f.DockerConfig(), "config.json")
	content, err := os.ReadFile(file)
	if err != nil || string(content) != "a login" {
		t.Errorf("config.json is %q, %v", content, err)
	}
	// push is no user that either of them knows.
	for path, mode := range map[string]os.FileMode{file: 0o444, f.DockerConfig(): os.ModeDir | 0o777} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info, err, mode)
		}
	}
	if entries, err := os.ReadDir(f.Certificates()); err != nil || len(entries) > 0 {
		t.Errorf("certificates has %v, %v", entries, err)
	}
	if err := f.Delete(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(string(f), "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if err := f.Delete(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestWorkspacesThatAreNotBound(t *testing.T) {
	t.Parallel()
	f := logins.Folder(t.TempDir())
	if err := f.Leave("", ""); err != nil {
		t.Fatal(err)
	}
	if f.DockerConfig() != "" || f.Certificates() != "" {
		t.Errorf("%q, %q", f.DockerConfig(), f.Certificates())
	}
}
