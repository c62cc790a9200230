// Package modules fetches private Go modules into a module cache before a
// build, with credentials that the build itself does not see.
//
// It takes from a module proxy (https://go.dev/ref/mod#goproxy-protocol) or from
// the modules' own git repositories what go.sum files name, and nothing that does
// not have the hash they name.
package modules

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/internal/step"
)

// Limits of what is read of a proxy, cmd/go's own (cmd/go/internal/modfetch/codehost).
const (
	maxZip  = 500 << 20
	maxMod  = 16 << 20
	maxInfo = 1 << 20
)

// Module is what go.sum files say about a module.
type Module struct {
	module.Version
	Sum    string // of its files, "h1:…"; "" where only its go.mod is needed
	ModSum string // of its go.mod; "" where that is not told
}

// Private are the modules of go.sum files that one of the patterns matches, as
// GOPRIVATE has them, in order.
func Private(patterns string, sums ...[]byte) []Module {
	found := map[module.Version]*Module{}
	for _, sum := range sums {
		lines := bufio.NewScanner(bytes.NewReader(sum))
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) != 3 || !strings.HasPrefix(fields[2], "h1:") || !module.MatchPrefixPatterns(patterns, fields[0]) {
				continue
			}
			version, modOnly := strings.CutSuffix(fields[1], "/go.mod")
			id := module.Version{Path: fields[0], Version: version}
			if found[id] == nil {
				found[id] = &Module{Version: id}
			}
			if modOnly {
				found[id].ModSum = fields[2]
			} else {
				found[id].Sum = fields[2]
			}
		}
	}
	var modules []Module
	for _, m := range found {
		modules = append(modules, *m)
	}
	slices.SortFunc(modules, func(a, b Module) int { return strings.Compare(a.String(), b.String()) })
	return modules
}

// Fetcher fetches modules into a module cache.
type Fetcher struct {
	// Proxies is a list as GOPROXY has it.
	Proxies string
	// Direct is for what Proxies has as "direct"; nil where that is passed over.
	Direct *Direct
	// Netrc has the credentials, by host.
	Netrc Netrc
	// Cache is the folder GOMODCACHE. Builds of any user may write to it.
	Cache  string
	Client *http.Client
}

// Fetched counts what a fetch did.
type Fetched struct {
	New   int // modules that were not in the cache
	Bytes int64
}

// Fetch completes the cache with modules. A module that cannot be had is an
// error that names it, and a [step.BadInput] where trying again will not help.
func (f *Fetcher) Fetch(ctx context.Context, modules []Module) (done Fetched, err error) {
	repositories := newRepositories(f)
	defer func() { err = errors.Join(err, repositories.close()) }()
	results := make([]Fetched, len(modules))
	fetches, ctx := errgroup.WithContext(ctx)
	fetches.SetLimit(8)
	for n, m := range modules {
		fetches.Go(func() error {
			var err error
			results[n], err = f.fetch(ctx, m, repositories)
			if err != nil {
				return fmt.Errorf("module %s: %w", m, err)
			}
			return nil
		})
	}
	err = fetches.Wait()
	for _, one := range results {
		done.New += one.New
		done.Bytes += one.Bytes
	}
	return done, err
}

// fetch leaves a module in cmd/go's layout (cmd/go/internal/modfetch/cache.go):
// VERSION.info, .mod, .zip and .ziphash, each complete or absent at every
// instant, the hash after the file that it is of.
func (f *Fetcher) fetch(ctx context.Context, m Module, repositories *repositories) (Fetched, error) {
	var done Fetched
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return done, step.BadInput(err)
	}
	version, err := module.EscapeVersion(m.Version.Version)
	if err != nil {
		return done, step.BadInput(err)
	}
	dir := filepath.Join(f.Cache, "cache", "download", filepath.FromSlash(path), "@v")
	if err := makeFolders(f.Cache, dir); err != nil {
		return done, err
	}
	at := func(extension string) string { return filepath.Join(dir, version+extension) }
	get := func(extension string, limit int64, check func(file string) error) error {
		n, err := f.download(ctx, wanted{m, path + "/@v/" + version, extension, at(extension), limit, check}, repositories)
		done.Bytes += n
		if n > 0 {
			done.New = 1
		}
		return err
	}

	if m.ModSum != "" {
		switch err := checkMod(m.ModSum)(at(".mod")); {
		case errors.Is(err, fs.ErrNotExist):
			if err := get(".mod", maxMod, checkMod(m.ModSum)); err != nil {
				return done, err
			}
		case err != nil:
			return done, ErrOther
		}
	}
	if m.Sum == "" {
		return done, nil
	}
	if !exists(at(".info")) {
		if err := get(".info", maxInfo, checkInfo(m.Version.Version)); err != nil {
			return done, err
		}
	}
	hash, err := os.ReadFile(at(".ziphash"))
	switch {
	case err == nil && string(hash) == m.Sum && exists(at(".zip")):
		return done, nil
	case err == nil && string(hash) != m.Sum:
		return done, ErrOther
	case errors.Is(err, fs.ErrNotExist) && !absent(filepath.Join(f.Cache, filepath.FromSlash(path)+"@"+version)):
		return done, ErrOther
	}
	if err := get(".zip", maxZip, checkZip(m.Sum)); err != nil {
		return done, err
	}
	if hash, err := os.ReadFile(at(".ziphash")); err == nil && string(hash) != m.Sum {
		return done, ErrOther
	}
	return done, step.WriteFile(at(".ziphash"), []byte(m.Sum), 0o644)
}

// ErrOther says that the cache has a module's files with other content than
// go.sum says: another build's, which may be using them. Go would believe them.
var ErrOther = errors.New("the cache has it with other content than go.sum says")

func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// makeFolders makes dir, below cache, as folders that every user can write to:
// the go command of a RUN puts its locks there.
func makeFolders(cache, dir string) error {
	if dir == cache {
		return nil
	}
	if err := makeFolders(cache, filepath.Dir(dir)); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o777)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, 0o777) // whatever the umask
}

func exists(file string) bool {
	info, err := os.Lstat(file)
	return err == nil && info.Mode().IsRegular()
}

func checkMod(sum string) func(string) error {
	return func(file string) error {
		got, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return os.Open(file) })
		return same(got, sum, err)
	}
}

func checkZip(sum string) func(string) error {
	return func(file string) error {
		got, err := dirhash.HashZip(file, dirhash.Hash1)
		return same(got, sum, err)
	}
}

func same(got, want string, err error) error {
	if err == nil && got != want {
		return fmt.Errorf("it has the hash %s, go.sum says %s; find out who changed it before you change go.sum", got, want)
	}
	return err
}

// info is the content of a .info file: https://go.dev/ref/mod#goproxy-protocol.
type info struct {
	Version string
	Time    time.Time // of the commit
}

func checkInfo(version string) func(string) error {
	return func(file string) error {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var info info
		if err := json.Unmarshal(content, &info); err != nil || info.Version != version {
			return errors.New("it is not about this version")
		}
		return nil
	}
}
