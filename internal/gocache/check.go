package gocache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/sync/errgroup"
)

// Damage is an entry that is not what it should be, and was taken away.
type Damage struct {
	Path    string // on the volume
	Problem error
}

// CheckAll reads everything on a volume, which takes as long as it does, and
// takes away what is damaged, even from under a build that uses it: it would be
// in its image otherwise. It returns how many entries it has read.
//
// An object of GOCACHE is named by its content's hash. A module has its own
// beside it, which go commands hold against go.sum in each build; a toolchain
// has a manifest, a base image is its digest's.
func CheckAll(ctx context.Context, volume string, found func(Damage)) (entriesRead int, err error) {
	report := make(chan Damage)
	told := make(chan struct{})
	go func() {
		defer close(told)
		for damage := range report {
			found(damage)
		}
	}()
	c := &check{volume: volume, report: report}
	checks, ctx := errgroup.WithContext(ctx)
	checks.SetLimit(4)
	for _, list := range []func() ([]suspect, error){c.objects, c.modules, c.baseImages, c.toolchains} {
		suspects, listErr := list()
		err = errors.Join(err, listErr)
		entriesRead += len(suspects)
		for _, suspect := range suspects {
			checks.Go(func() error { return c.look(ctx, suspect) })
		}
	}
	err = errors.Join(err, checks.Wait())
	close(report)
	<-told
	return entriesRead, errors.Join(err, emptyTrash(volume))
}

type check struct {
	volume string
	report chan<- Damage
}

// suspect is an entry to look at. The error of check is [fs.ErrNotExist] where
// the entry is gone by now.
type suspect struct {
	path  string   // what the entry is called
	parts []string // what goes if it is damaged, in this order
	check func(context.Context) error
}

func (c *check) look(ctx context.Context, s suspect) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.check(ctx)
	if err == nil || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
		return ctx.Err()
	}
	name, relErr := filepath.Rel(c.volume, s.path)
	if relErr != nil {
		return relErr
	}
	var damage damagedError
	if errors.As(err, &damage) {
		err = damage.problem
	}
	c.report <- Damage{name, err}
	for _, part := range s.parts {
		if err := discard(c.volume, part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take %s away: %w", name, err)
		}
	}
	return nil
}

func (c *check) objects() ([]suspect, error) {
	numbers, _, err := generations(c.volume, GoBuild)
	if err != nil {
		return nil, err
	}
	var all []suspect
	for _, number := range numbers {
		for _, shard := range shards() {
			generation := generation(c.volume, GoBuild, number)
			dir := filepath.Join(generation, shard)
			files, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, file := range files {
				// A folder has an executable that is linked anew if need be.
				id, ok := strings.CutSuffix(file.Name(), "-d")
				if path := filepath.Join(dir, file.Name()); ok && file.Type().IsRegular() {
					parts := []string{path, filepath.Join(nextOf(generation), shard, file.Name())}
					all = append(all, suspect{path, parts, func(context.Context) error { return checkObject(path, id) }})
				}
			}
		}
	}
	return all, nil
}

func checkObject(path, id string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	if hex.EncodeToString(hash.Sum(nil)) == id {
		return nil
	}
	// One that is being written is not damaged, and Go knows by its size.
	if info, err := file.Stat(); err != nil || Time(filepath.Dir(filepath.Dir(path))).Sub(info.ModTime()) < leaseFor {
		return nil
	}
	return errors.New("its content has another hash than its name")
}

func (c *check) modules() ([]suspect, error) {
	numbers, _, err := generations(c.volume, GoMod)
	if err != nil {
		return nil, err
	}
	var all []suspect
	for _, number := range numbers {
		for _, m := range modulesIn(generation(c.volume, GoMod, number)) {
			all = append(all, suspect{m.tree(), m.parts(), func(context.Context) error { return m.check() }})
		}
	}
	return all, nil
}

// unvouched says what is wrong with a version that has no hash beside it, which
// a removal may have left: Go takes an archive that is there for the right one,
// and never downloads it again, and so it takes the files. What is right is the
// hash want, or any with "".
func (m *modVersion) unvouched(want string) error {
	hash := filepath.Join(m.download(), m.version+".ziphash")
	got, err := dirhash.HashZip(filepath.Join(m.download(), m.version+".zip"), dirhash.Hash1)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !m.whole():
		return nil
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("its files are there without the hash that they were downloaded with")
	case err != nil:
		err = fmt.Errorf("its archive: %v", err) //nolint:errorlint // damaged, not gone
	case want != "" && got != want:
		err = errors.New("its archive has another hash than go.sum says")
	default:
		err = m.checkFiles(got)
	}
	if !gone(hash) {
		return nil // it was downloaded at this moment
	}
	return err
}

// check compares a version with the hash that it was downloaded with.
func (m *modVersion) check() error {
	file := func(kind string) string { return filepath.Join(m.download(), m.version+kind) }
	hash, err := os.ReadFile(file(".ziphash"))
	if errors.Is(err, fs.ErrNotExist) {
		return m.unvouched("") // its go.mod each build holds against go.sum
	}
	if err != nil {
		return err
	}
	got, err := dirhash.HashZip(file(".zip"), dirhash.Hash1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its archive: %v", err) //nolint:errorlint // damaged, not gone
	}
	if err == nil && got != string(hash) {
		return errors.New("its archive has another hash than it was downloaded with")
	}
	return m.checkFiles(string(hash))
}

// checkFiles compares the files of a version with a hash, where they are whole.
func (m *modVersion) checkFiles(hash string) error {
	if !m.whole() {
		return nil
	}
	path, err := module.UnescapePath(m.path)
	if err != nil {
		return err
	}
	version, err := module.UnescapeVersion(m.version)
	if err != nil {
		return err
	}
	got, err := dirhash.HashDir(m.tree(), path+"@"+version, dirhash.Hash1)
	if err != nil {
		return fmt.Errorf("its files: %v", err) //nolint:errorlint // damaged, not gone
	}
	if got != hash {
		return errors.New("its files have another hash than it was downloaded with")
	}
	return nil
}

func (c *check) baseImages() ([]suspect, error) {
	return c.entries(Bases, func(_ context.Context, digest v1.Hash) error {
		_, err := BaseImages(filepath.Join(c.volume, string(Bases))).check(digest)
		return err
	})
}

func (c *check) toolchains() ([]suspect, error) {
	return c.entries(GoRoots, func(ctx context.Context, digest v1.Hash) error {
		_, err := Toolchains(filepath.Join(c.volume, string(GoRoots))).check(ctx, digest, true)
		return err
	})
}

func (c *check) entries(name Name, check func(context.Context, v1.Hash) error) ([]suspect, error) {
	dir := filepath.Join(c.volume, string(name))
	found, err := entries(dir).list()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []suspect
	for _, entry := range found {
		digest, err := v1.NewHash(entry.Name())
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, entry.Name())
		all = append(all, suspect{path, []string{path}, func(ctx context.Context) error {
			folder, err := os.Open(path)
			if err != nil {
				return err
			}
			defer folder.Close()
			if err := check(ctx, digest); err != nil {
				// A build may have replaced it while it was read.
				return cmp.Or(stillThere(folder, path), err)
			}
			return nil
		}})
	}
	return all, nil
}
