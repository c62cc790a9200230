package gocache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
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

// Builds that only look at an image and builds that keep its toolchain take
// turns at will: what is kept is there from then on, whole at every instant.
func TestOneThatIsKeptIsNotForgotten(t *testing.T) {
	t.Parallel()
	toolchains := gocache.Toolchains(t.TempDir())
	img := golang(t)
	digest := digestOf(t, img)
	var builds errgroup.Group
	for range 8 {
		builds.Go(func() error {
			found, err := gocache.Inspect(t.Context(), img)
			if err != nil {
				return err
			}
			return toolchains.Remember(t.Context(), digest, found)
		})
		builds.Go(func() error {
			for range 4 {
				if _, err := toolchains.Keep(t.Context(), img); err != nil {
					return err
				}
				if found, err := toolchains.Look(t.Context(), digest); err != nil || !found.Kept {
					return fmt.Errorf("after Keep there is %+v, %w", found, err)
				}
			}
			return nil
		})
	}
	if err := builds.Wait(); err != nil {
		t.Error(err)
	}
	onlyEntries(t, gocache.BaseImages(toolchains), digest.String())
}

func TestDamageIsReplacedWhereNoNamesAreExchanged(t *testing.T) {
	defer gocache.SetExchange(func(string, string) error { return unix.EINVAL })()
	toolchains, digest := keptGolang(t)
	truncate(t, filepath.Join(string(toolchains), digest.String(), "toolchain.json"))
	if _, err := toolchains.Keep(t.Context(), golang(t)); err != nil {
		t.Fatal(err)
	}
	onlyKept(t, toolchains, digest)
}

func TestAToolchainIsKeptInThePlaceOfFacts(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]func(t *testing.T, path string, known func()){
		"what a build without it has found": func(_ *testing.T, _ string, known func()) { known() },
		"a file":                            func(t *testing.T, path string, _ func()) { writeFile(t, path, "") },
		"a link to nowhere":                 func(t *testing.T, path string, _ func()) { relink(t, path, "/nowhere") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			toolchains := gocache.Toolchains(t.TempDir())
			img := golang(t)
			digest := digestOf(t, img)
			there(t, filepath.Join(string(toolchains), digest.String()), func() {
				if err := toolchains.Remember(t.Context(), digest, &gocache.Toolchain{Go: true}); err != nil {
					t.Fatal(err)
				}
			})
			if _, err := toolchains.Keep(t.Context(), img); err != nil {
				t.Fatal(err)
			}
			if err := toolchains.Remember(t.Context(), digest, &gocache.Toolchain{Go: true}); err != nil {
				t.Fatal(err)
			}
			onlyKept(t, toolchains, digest)
		})
	}
}

// What a build only looks at takes no tree away that another may use.
func TestFactsNeverTakeThePlaceOfATree(t *testing.T) {
	facts := &gocache.Toolchain{Go: true}
	program := func(toolchains gocache.Toolchains, digest v1.Hash) bool {
		return exists(filepath.Join(toolchains.Tree(digest), "bin/go"))
	}
	damage := func(toolchains gocache.Toolchains, digest v1.Hash) {
		truncate(t, filepath.Join(string(toolchains), digest.String(), "toolchain.json"))
	}

	// Another build keeps it at this moment.
	toolchains, digest := keptGolang(t)
	damage(toolchains, digest)
	kept := false
	keep := func() {
		if kept {
			return
		}
		kept = true
		if _, err := toolchains.Keep(t.Context(), golang(t)); err != nil {
			t.Error(err)
		}
	}
	exchange := func(one, other string) error {
		return unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
	}
	restore := gocache.SetExchange(func(one, other string) error {
		keep()
		return exchange(one, other)
	})
	if err := toolchains.Remember(interrupted{t.Context(), keep}, digest, facts); err != nil {
		t.Error(err)
	}
	restore()
	if !program(toolchains, digest) {
		t.Error("what another build has kept meanwhile is gone")
	}

	// It cannot be read to its end.
	toolchains, digest = keptGolang(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := toolchains.Remember(cancelled, digest, facts); !errors.Is(err, context.Canceled) {
		t.Errorf("a build that is over: %v", err)
	}
	if found, err := toolchains.Look(t.Context(), digest); err != nil || !found.Kept || !program(toolchains, digest) {
		t.Errorf("after a build that is over there is %+v, %v", found, err)
	}

	// It is damaged, and still some build's.
	damage(toolchains, digest)
	if err := toolchains.Remember(t.Context(), digest, facts); err != nil {
		t.Error(err)
	}
	if found, err := toolchains.Look(t.Context(), digest); err != nil || found.Kept || !program(toolchains, digest) {
		t.Errorf("what is damaged is %+v, %v", found, err)
	}
	if _, err := toolchains.Keep(t.Context(), golang(t)); err != nil {
		t.Error(err)
	}
	if found, err := toolchains.Look(t.Context(), digest); err != nil || !found.Kept {
		t.Errorf("kept anew it is %+v, %v", found, err)
	}
	onlyEntries(t, gocache.BaseImages(toolchains), digest.String())
}

// onlyKept wants the toolchain digest in the folder, kept, and nothing else.
func onlyKept(t *testing.T, toolchains gocache.Toolchains, digest v1.Hash) {
	t.Helper()
	if found, err := toolchains.Look(t.Context(), digest); err != nil || !found.Kept {
		t.Errorf("there is %+v, %v", found, err)
	}
	onlyEntries(t, gocache.BaseImages(toolchains), digest.String())
}
