package gocache

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDownloaded(t *testing.T) {
	t.Parallel()
	goMod := t.TempDir()
	started := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for name, at := range map[string]time.Time{
		"corp.example/old/@v/v1.0.0.zip":   started.Add(-time.Second),
		"corp.example/old/@v/v1.0.0.mod":   started.Add(time.Second), // as a use of it leaves
		"corp.example/new/@v/v1.0.0.zip":   started,
		"corp.example/new/@v/v1.0.0.info":  started,
		"corp.example/new/@v/v1.1.0.zip":   started.Add(time.Second),
		"corp.example/asked/@v/v2.0.0.mod": started.Add(time.Second), // for its requirements alone
	} {
		path := filepath.Join(goMod, "cache", "download", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Downloaded(goMod, started); err != nil || got != 2 {
		t.Errorf("got %d, %v, want 2", got, err)
	}
	if _, err := Downloaded(filepath.Join(goMod, "absent"), started); err == nil {
		t.Error("no error where there is none")
	}
}
