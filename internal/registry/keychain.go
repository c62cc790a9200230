package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// maxSecret is the most bytes read of a file in a registry secret. Kubernetes'
// own limit for a whole secret is 1 MiB.
const maxSecret = 1 << 20

// Credentials reads the registry secret that is mounted at dir; "" is no
// secret. Known are
//   - config.json and .dockerconfigjson: a Docker configuration with "auths"
//     (credential helpers are programs, and none is at hand here; those of the
//     clouds are not needed);
//   - any other file that is the JSON key of a Google service account: it is
//     used for gcr.io, *.gcr.io and *.pkg.dev.
//
// Where the secret has nothing for a registry, the Docker configuration of the
// step's user counts, which is where Tekton puts the secrets that are
// annotated on the service account; then, for the registries of Google, AWS and
// Azure, the identity that the pod has there.
func Credentials(dir string) (authn.Keychain, error) {
	own := append([]authn.Keychain{authn.DefaultKeychain}, identities()...)
	if dir == "" {
		return authn.NewMultiKeychain(own...), nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("workspace dockerconfig: %w", err)
	}
	var chains []authn.Keychain
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		// A secret's files are symlinks into a folder that is swapped as one.
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxSecret {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("workspace dockerconfig: %w", err)
		}
		switch entry.Name() {
		case "config.json", ".dockerconfigjson":
			chain, err := dockerConfig(content)
			if err != nil {
				return nil, fmt.Errorf("workspace dockerconfig: %s: %w", entry.Name(), err)
			}
			chains = append(chains, chain)
		default:
			if chain, ok := googleKey(content); ok {
				chains = append(chains, chain)
			}
		}
	}
	// A secret that is optional and does not exist is mounted all the same, as
	// a folder without a key ("..data" is the kubelet's own).
	keys := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), "..") })
	if len(chains) == 0 && keys {
		return nil, fmt.Errorf("workspace dockerconfig has none of config.json, .dockerconfigjson and a Google service account's key: %w", fs.ErrNotExist)
	}
	return authn.NewMultiKeychain(append(chains, own...)...), nil
}

// auths are the credentials of a Docker configuration, by registry or by a
// repository's prefix ("registry.example/team").
type auths map[string]authn.AuthConfig

func dockerConfig(content []byte) (auths, error) {
	var config struct {
		Auths       map[string]authn.AuthConfig `json:"auths"`
		CredsStore  string                      `json:"credsStore"`
		CredHelpers map[string]string           `json:"credHelpers"`
	}
	if err := json.Unmarshal(content, &config); err != nil {
		// The decoder's message may quote what it read.
		return nil, errors.New(`not a Docker configuration: it must be JSON like {"auths":{"registry.example":{"auth":"…"}}}`)
	}
	a := auths{}
	for key, auth := range config.Auths {
		if auth != (authn.AuthConfig{}) { // "docker login" with a helper leaves empty ones
			a[normal(key)] = auth
		}
	}
	if len(a) > 0 {
		return a, nil
	}
	for _, helper := range append(slices.Sorted(maps.Values(config.CredHelpers)), config.CredsStore) {
		if helper != "" && !slices.Contains(cloudHelpers, helper) {
			return nil, fmt.Errorf(`its logins are with the credential helper docker-credential-%s, a program of another machine: make a secret that has them in "auths", as "kubectl create secret docker-registry" does`, helper)
		}
	}
	return a, nil
}

// normal is the name by which a key of "auths" is found: the forms that docker
// login has written over the years ("https://index.docker.io/v1/") without
// scheme and API version.
func normal(key string) string {
	_, rest, found := strings.Cut(key, "://")
	if !found {
		rest = key
	}
	rest = strings.TrimSuffix(rest, "/")
	rest = strings.TrimSuffix(strings.TrimSuffix(rest, "/v1"), "/v2")
	host, path, nested := strings.Cut(rest, "/")
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = name.DefaultRegistry
	}
	if nested {
		return host + "/" + path
	}
	return host
}

// Resolve takes the credentials of the longest prefix of target.
func (a auths) Resolve(target authn.Resource) (authn.Authenticator, error) {
	for key := target.String(); ; key = key[:strings.LastIndex(key, "/")] {
		if auth, ok := a[key]; ok {
			return authn.FromConfig(auth), nil
		}
		if !strings.Contains(key, "/") {
			return authn.Anonymous, nil
		}
	}
}

// keyFile is a Google service account's key, as it logs in to Google's
// registries (https://cloud.google.com/artifact-registry/docs/docker/authentication#json-key).
type keyFile string

func googleKey(content []byte) (keyFile, bool) {
	var key struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(content, &key) != nil || key.Type != "service_account" {
		return "", false
	}
	return keyFile(content), true
}

func (k keyFile) Resolve(target authn.Resource) (authn.Authenticator, error) {
	host := target.RegistryStr()
	if host == "gcr.io" || strings.HasSuffix(host, ".gcr.io") || strings.HasSuffix(host, ".pkg.dev") {
		return &authn.Basic{Username: "_json_key", Password: string(k)}, nil
	}
	return authn.Anonymous, nil
}
