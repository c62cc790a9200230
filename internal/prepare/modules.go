package prepare

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/modules"
)

// keptModules is where RUN instructions find the kept module cache where their
// own is the image's: the same path in each build, as goBuildCache is.
func keptModules(c *Config) string { return filepath.Join(c.Built, string(gocache.GoMod)) }

// keptFirst makes GOPROXY the kept module cache, whose downloads are laid out as
// a proxy's (https://go.dev/ref/mod#module-cache), and then proxies. The modules
// that go-private names are among the kept ones: that the Dockerfile's GOPRIVATE
// has them too is no reason to look elsewhere, where they take a login.
func keptFirst(c *Config, settings map[string]string, proxies string) {
	settings["GOPROXY"] = "file://" + filepath.Join(keptModules(c), "cache", "download") + "|" + proxies
	if c.GoPrivate != "" {
		settings["GONOPROXY"] = "none" // no pattern
	}
}

// keptFirst is the same for a Go whose go.env is env and that is given no
// proxies: those are its own.
func (t *toolchain) keptFirst(env string, settings map[string]string) {
	for line := range strings.Lines(env) {
		if proxies, ok := strings.CutPrefix(strings.TrimSpace(line), "GOPROXY="); ok {
			keptFirst(t.config, settings, proxies)
			return
		}
	}
	t.log.printf("modules: go commands download them anew in each build: the base image's Go has no GOPROXY to put the kept ones before; set the param go-proxy")
}

// fetchAll puts the modules of the source on the volume, for go commands that
// cannot do so, as their module cache is the image's own. They download what is
// not there.
func fetchAll(ctx context.Context, c *Config, source *source, goMod goCache, log *log) {
	if goMod.held == nil || c.GoProxy == "" {
		return
	}
	started := time.Now()
	fetcher := &modules.Fetcher{Proxies: c.GoProxy, Cache: goMod.dir, Client: http.DefaultClient}
	done, err := fetcher.Fetch(ctx, modules.Private("*", source.goSums(log)...))
	if err != nil {
		log.printf("modules: not all are on the volume: %v", err)
	}
	log.printf("modules: %d fetched, %s in %.1f s", done.New, size(done.Bytes), time.Since(started).Seconds())
}
