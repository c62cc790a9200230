// Package corpus makes cases of Dockerfiles that were written for other builds:
// without their build contexts, their base images and a network.
//
// [Derive] has both front ends read one, with made-up images. [Make] makes a
// folder that both builders can build: the images are stand-ins whose shells
// note what they are given and run nothing, and what COPY and ADD name is there.
package corpus

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// kinds are the stand-ins by what an image's name has to be; the first counts.
var kinds = []struct {
	name  *regexp.Regexp
	stand string
}{
	{regexp.MustCompile(`:(.*-)?onbuild`), "onbuild"},
	{regexp.MustCompile(`(distroless|chainguard|static|wolfi).*nonroot|cgr\.dev/chainguard/(static|go)`), "nonroot"},
	{regexp.MustCompile(`distroless`), "distroless"},
	{regexp.MustCompile(`(^|/)(golang|go|go-toolset|goboring)(:|@|$)|golang`), "golang"},
	{regexp.MustCompile(`(^|/)node(:|@|$)`), "node"},
	{regexp.MustCompile(`(^|/)(nginx|openresty|httpd|caddy)\b`), "nginx"},
	{regexp.MustCompile(`(^|/)(python|pypy)(:|@|$)`), "python"},
}

// StandIn is the image that stands for another, by that one's name.
func StandIn(image string) string {
	for _, kind := range kinds {
		if kind.name.MatchString(image) {
			return oracle.StandIn(kind.stand)
		}
	}
	return oracle.StandIn("plain")
}

// config is the configuration of the image that stands for another, as JSON.
func config(image string) ([]byte, error) {
	// Without a layer it would be as good as scratch to BuildKit.
	layer := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	return json.Marshal(v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Config: oracle.StandInConfig(StandIn(image)),
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{layer}},
	})
}

// digestOf is a digest for an image that nobody has.
func digestOf(image string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(image)))
}

// looksLikeFile guesses from a path, without a pattern, whether a file is there.
func looksLikeFile(name string) bool {
	base := path.Base(name)
	if strings.HasSuffix(name, "/") || base == "." || base == "/" {
		return false
	}
	if strings.Contains(strings.TrimPrefix(base, "."), ".") {
		return !folderLike.MatchString(base)
	}
	return fileLike.MatchString(base)
}

var (
	// fileLike are names without an extension that are files.
	fileLike = regexp.MustCompile(`^(Makefile|[A-Z]*file|[A-Z][A-Z_-]+|main|app|server|manager|passwd|group|shadow|hosts|localtime|mime\.types|.*(entrypoint|-linux|_linux|amd64|start|run|init|cmd)|\.(env|npmrc|netrc|babelrc|eslintrc|gitconfig|gitignore|dockerignore|bashrc|profile|vimrc))$`)
	// folderLike are names with a dot that are folders all the same.
	folderLike = regexp.MustCompile(`^(.*\.d|.*\.(com|io|org)|v?\d+(\.\d+)*|.*-\d+(\.\d+)+|\.(git|github|config|cache|local|next|m2|cargo|npm|kube|ssh|aws|docker|mvn|yarn))$`)
)
