package gocache_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// What was replaced, and cannot be deleted now, is no reason to fail.
func TestAnEntryIsReplacedWhoeverOwnsWhatWasThere(t *testing.T) {
	defer gocache.SetExchange(func(string, string) error { return unix.EINVAL })()
	dir := t.TempDir()
	entry := filepath.Join(dir, "entry")
	locked := filepath.Join(entry, "locked")
	if err := errors.Join(os.MkdirAll(locked, 0o755), os.WriteFile(filepath.Join(locked, "file"), nil, 0o644), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777), os.Chmod(entry, 0o777), os.Chmod(locked, 0o555)); err != nil {
		t.Fatal(err)
	}
	replaced := make(chan error)
	go func() {
		// The thread ends with the goroutine, as it stays locked: only there root
		// may not delete everything.
		runtime.LockOSThread()
		_, _ = unix.SetfsuidRetUid(65534)
		replaced <- gocache.ReplaceEntry(dir, "entry")
	}()
	if err := <-replaced; err != nil || exists(locked) {
		t.Errorf("what was there is in its place: %t, %v", exists(locked), err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".staging-*/entry/locked"))
	if err != nil || len(left) != 1 {
		t.Fatalf("left for later are %q, %v", left, err)
	}
	if err := os.Chmod(left[0], 0o755); err != nil { // for who deletes the folder
		t.Error(err)
	}
}
