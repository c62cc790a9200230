package prepare

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/internal/git"
	"github.com/slipway-ci/slipway/internal/modules"
	"github.com/slipway-ci/slipway/internal/step"
)

// fetchPrivate puts the private modules of the source into the module cache,
// where the build finds them without the credential that they took.
func fetchPrivate(ctx context.Context, c *Config, source *source, goMod string, log *log) error {
	if c.GoPrivate == "" {
		return nil
	}
	netrc, err := modules.ReadNetrc(c.Netrc)
	if err != nil {
		return step.BadInput(err)
	}
	proxies := c.privateProxies()
	var logins git.Credentials
	if usesDirect(proxies) {
		logins, err = git.ReadCredentials("git-credentials", c.GitLogins)
		if err != nil && usesDirect(c.GoPrivateProxy) {
			return step.BadInput(err)
		}
		if err != nil { // a proxy may have them all
			log.printf("private modules: %v", err)
		}
	}
	started := time.Now()
	wanted := modules.Private(c.GoPrivate, source.goSums(log)...)
	fetcher := &modules.Fetcher{
		Proxies: proxies,
		Direct:  &modules.Direct{Credentials: logins, Folder: c.Prepared, Log: log.printf},
		Netrc:   netrc, Cache: goMod, Client: http.DefaultClient,
	}
	done, err := fetcher.Fetch(ctx, wanted)
	if err != nil {
		return fmt.Errorf("private %w", err)
	}
	log.printf("private modules: %d in go.sum, %d fetched, %s in %.1f s", len(wanted), done.New, size(done.Bytes), time.Since(started).Seconds())
	return nil
}

// privateProxies are where private modules are, as GOPROXY has it. Where no param
// says so, they may be at the other modules' proxies; else they come from their
// repositories, as they do for a go command that has GOPRIVATE.
func (c *Config) privateProxies() string {
	switch {
	case c.GoPrivateProxy != "":
		return c.GoPrivateProxy
	case c.GoProxy == "" || c.GoProxy == "off":
		return "direct"
	}
	return c.GoProxy + ",direct"
}

// usesDirect says whether a list as GOPROXY has it may lead to repositories.
func usesDirect(proxies string) bool {
	return slices.Contains(strings.FieldsFunc(proxies, func(r rune) bool { return strings.ContainsRune(",| ", r) }), "direct")
}

// goSums are the go.sum and go.work.sum files of the build context, but for
// those in folders that no build looks into.
func (s *source) goSums(log *log) [][]byte {
	root, err := os.OpenRoot(s.context)
	if err != nil {
		log.printf("private modules: %v", err)
		return nil
	}
	defer root.Close()
	var sums [][]byte
	_ = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil: // what cannot be read cannot be copied either: kaniko will say so
			return nil //nolint:nilerr // see above
		case name == ".":
		case entry.IsDir():
			if base == "vendor" || base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || s.leftOut(name) {
				return fs.SkipDir
			}
		case (base == "go.sum" || base == "go.work.sum") && entry.Type().IsRegular() && s.ignore.excludes(name) == 0:
			content, err := root.ReadFile(name)
			if err != nil {
				log.printf("private modules: %s: %v", name, cause(err))
				return nil
			}
			sums = append(sums, content)
		}
		return nil
	})
	return sums
}

// leftOut reports whether nothing of a folder is in the build context.
func (s *source) leftOut(folder string) bool {
	return s.ignore != nil && !s.ignore.hasExceptions() && s.ignore.excludes(folder) > 0
}

// joinPatterns joins lists as GOPRIVATE has them.
func joinPatterns(lists ...string) string {
	var all []string
	for _, list := range lists {
		if list != "" {
			all = append(all, list)
		}
	}
	return strings.Join(all, ",")
}
