package gocache_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// BenchmarkTidy tells what tidying takes of a machine: on a GOCACHE of 17 GB in
// 100,000 objects where nothing has to go, and where the 5 GB that were used
// least lately do. "beside" is while the build runs, "after" is what it has to
// wait for in the end.
func BenchmarkTidy(b *testing.B) {
	const objects, size, budget = 100_000, 172 << 10, 17 << 30
	volume := b.TempDir()
	held, err := gocache.OpenHeld(volume, gocache.GoBuild, 0)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for n := range objects {
		id := sha256.Sum256(binary.AppendVarint(nil, int64(n)))
		name := hex.EncodeToString(id[:])
		path := filepath.Join(held.Path(), name[:2], name+"-d")
		file, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := unix.Fallocate(int(file.Fd()), 0, 0, size); err != nil {
			b.Fatal(err)
		}
		if err := file.Close(); err != nil {
			b.Fatal(err)
		}
		used := now.Add(-time.Duration(n) * time.Second)
		if err := os.Chtimes(path, used, used); err != nil {
			b.Fatal(err)
		}
	}
	tidy := func(b *testing.B, size int64) {
		started := time.Now()
		tidying := gocache.Tidy(gocache.Budget{Volume: volume, Size: size, GoBuild: held.Path()})
		<-tidying.Beside()
		beside := time.Since(started)
		said, err := tidying.End(time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(beside.Seconds(), "s-beside")
		b.ReportMetric((time.Since(started) - beside).Seconds(), "s-after")
		b.Log(said)
	}
	b.Run("first look", func(b *testing.B) { tidy(b, 0) })
	b.Run("nothing to do", func(b *testing.B) { tidy(b, 0) })
	b.Run("5 GB go", func(b *testing.B) { tidy(b, budget) })
	if err := held.Release(); err != nil {
		b.Fatal(err)
	}
	b.Run("and the old generation", func(b *testing.B) { tidy(b, budget) })
}
