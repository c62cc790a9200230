package kaniko

import (
	"slices"
	"strings"
)

// undeciding are the flags that do not decide the image: where things are, which
// caches are used, how registries are reached and what is logged. Build args and secrets do decide,
// and are known by their names elsewhere.
var undeciding = []string{
	"cache", "cache-copy-layers", "cache-dir", "cache-repo", "cache-run-layers", "cache-ttl", "no-push-cache",
	"build-arg", "context", "dockerfile", "force", "oci-layout-path", "secret",
	"image-download-retry", "image-fs-extract-retry", "insecure", "insecure-pull", "insecure-registry", "push-retry", "registry-certificate", "registry-client-cert",
	"registry-map", "registry-mirror", "skip-default-registry-fallback", "skip-tls-verify", "skip-tls-verify-pull", "skip-tls-verify-registry",
	"log-format", "log-timestamp", "v", "verbosity",
}

// Deciding are the values of the flags among args that decide the image, by the
// flags' names and in the order they are given. A flag that is not known counts.
func Deciding(args []string) map[string][]string {
	values := map[string][]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !slices.Contains(undeciding, name) {
			values[name] = append(values[name], value)
		}
	}
	return values
}
