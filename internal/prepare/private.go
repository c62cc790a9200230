package prepare

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/internal/buildcontext"
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
	var sums [][]byte
	err := s.context.Walk(context.Background(), ".", func(e buildcontext.Entry) error {
		base := path.Base(e.Path)
		switch {
		case e.Mode.IsDir():
			if base == "vendor" || base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
		case (base == "go.sum" || base == "go.work.sum") && e.Mode.IsRegular():
			content, err := os.ReadFile(filepath.Join(s.context.Dir(), e.Path))
			if err != nil {
				log.printf("private modules: %s: %v", e.Path, cause(err))
				return nil
			}
			sums = append(sums, content)
		}
		return nil
	})
	if err != nil { // kaniko will say so too
		log.printf("private modules: %v", err)
	}
	return sums
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
