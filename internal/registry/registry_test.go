package registry_test

import (
	"errors"
	"io"
	"io/fs"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	server "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/registry"
)

var (
	amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = v1.Platform{OS: "linux", Architecture: "arm64"}
)

// serve starts a registry on loopback; login, "user:password", may be "".
func serve(t *testing.T, login string) (host string) {
	t.Helper()
	handler := server.New(server.Logger(stdlog.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if login != "" && (!ok || user+":"+password != login) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// store puts an index of two platforms into a registry and returns the digests
// of both.
func store(t *testing.T, ref string, auth authn.Authenticator) map[string]string {
	t.Helper()
	digests := map[string]string{}
	index := v1.ImageIndex(empty.Index)
	for _, platform := range []v1.Platform{amd64, arm64} {
		img, err := random.Image(64, 1)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[platform.Architecture] = digest.String()
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(parsed, index, remote.WithAuth(auth)); err != nil {
		t.Fatal(err)
	}
	return digests
}

func digestOf(t *testing.T, c *registry.Client, image string, platform v1.Platform) (string, error) {
	t.Helper()
	img, err := c.Image(t.Context(), image, platform)
	if err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String(), nil
}

func client(t *testing.T, o registry.Options) *registry.Client {
	t.Helper()
	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestImageComesFromMirrorsMapsOrTheRegistryItself(t *testing.T) {
	t.Parallel()
	hub, own, empty := serve(t, ""), serve(t, ""), serve(t, "")
	golang := store(t, hub+"/library/golang:alpine", authn.Anonymous)
	prefixed := store(t, hub+"/mirror/distroless/static:latest", authn.Anonymous)
	app := store(t, own+"/team/app:1", authn.Anonymous)

	c := client(t, registry.Options{
		Mirrors: []string{empty, hub},
		Maps:    []string{"gcr.io=" + empty + ";gcr.io=" + hub + "/mirror", own + "=" + empty},
	})
	for _, tc := range []struct {
		image    string
		platform v1.Platform
		want     string
	}{
		{"golang:alpine", amd64, golang["amd64"]},
		{"docker.io/library/golang:alpine", arm64, golang["arm64"]},
		{"golang:alpine@" + golang["arm64"], amd64, golang["arm64"]}, // no platform to choose
		{"gcr.io/distroless/static", amd64, prefixed["amd64"]},
		{own + "/team/app:1", amd64, app["amd64"]}, // not where it is mapped to
	} {
		got, err := digestOf(t, c, tc.image, tc.platform)
		if err != nil || got != tc.want {
			t.Errorf("%s for %s: got %s, %v, want %s", tc.image, tc.platform.Architecture, got, err, tc.want)
		}
	}

	strict := client(t, registry.Options{Maps: []string{own + "=" + empty}, NoFallback: true})
	_, err := digestOf(t, strict, own+"/team/app:1", amd64)
	want := "registry " + empty + " has no team/app:1 (404, NAME_UNKNOWN: Unknown name)"
	if !errors.Is(err, registry.ErrRejected) || err.Error() != want {
		t.Errorf("without fallback: got %v, want %s", err, want)
	}
}

// What a registry has granted for one request holds for the next, and a failure
// does not.
func TestARegistryGrantsOnce(t *testing.T) {
	t.Parallel()
	handler := server.New(server.Logger(stdlog.New(io.Discard, "", 0)))
	var asked atomic.Int32
	var down atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			asked.Add(1)
			if down.Load() {
				w.WriteHeader(http.StatusForbidden)
				return
			}
		}
		handler.ServeHTTP(w, r)
	}))
	defer s.Close()
	image := strings.TrimPrefix(s.URL, "http://") + "/team/app:1"
	digests := store(t, image, authn.Anonymous)
	tag, err := name.NewTag(image)
	if err != nil {
		t.Fatal(err)
	}

	c := client(t, registry.Options{})
	down.Store(true)
	if _, err := c.Names(t.Context(), tag); err == nil {
		t.Fatal("a registry that is down said what a tag names")
	}
	down.Store(false)
	asked.Store(0)
	for _, platform := range []v1.Platform{amd64, arm64} {
		if got, err := digestOf(t, c, image, platform); err != nil || got != digests[platform.Architecture] {
			t.Errorf("%s: got %s, %v", platform, got, err)
		}
	}
	if _, err := c.Get(t.Context(), tag.Context().Tag("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Names(t.Context(), tag); err != nil {
		t.Error(err)
	}
	if got := asked.Load(); got != 1 {
		t.Errorf("it was asked for access %d times", got)
	}
}

func TestEveryPlaceThatWasAskedIsNamed(t *testing.T) {
	t.Parallel()
	empty := serve(t, "")
	gone := httptest.NewServer(http.NotFoundHandler())
	goneHost := strings.TrimPrefix(gone.URL, "http://")
	gone.Close()
	c := client(t, registry.Options{Maps: []string{"gcr.io=" + goneHost + ";gcr.io=" + empty}, NoFallback: true})
	_, err := digestOf(t, c, "gcr.io/a/b", amd64)
	if err == nil || errors.Is(err, registry.ErrRejected) ||
		!strings.Contains(err.Error(), "registry "+goneHost+": ") || !strings.Contains(err.Error(), "; registry "+empty+" has no a/b:latest") {
		t.Errorf("got %v", err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	host := serve(t, "robot:secret-word")
	store(t, host+"/team/app", &authn.Basic{Username: "robot", Password: "secret-word"})

	for name, tc := range map[string]struct {
		file, content string
		ok            bool
	}{
		"kubernetes secret":        {".dockerconfigjson", `{"auths":{"HOST":{"auth":"cm9ib3Q6c2VjcmV0LXdvcmQ="}}}`, true},
		"docker login":             {"config.json", `{"auths":{"https://HOST/v2/":{"username":"robot","password":"secret-word"}}}`, true},
		"a repository's own":       {"config.json", `{"auths":{"HOST":{"username":"x","password":"y"},"HOST/team":{"username":"robot","password":"secret-word"}}}`, true},
		"of another repository":    {"config.json", `{"auths":{"HOST/tea":{"username":"robot","password":"secret-word"}}}`, false},
		"of another registry":      {"config.json", `{"auths":{"other.example":{"username":"robot","password":"secret-word"}}}`, false},
		"wrong":                    {"config.json", `{"auths":{"HOST":{"username":"robot","password":"guess"}}}`, false},
		"a Google key for another": {"kaniko-secret", `{"type":"service_account"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, tc.file), strings.ReplaceAll(tc.content, "HOST", host))
			keychain, err := registry.Credentials(dir)
			if err != nil {
				t.Fatal(err)
			}
			_, err = digestOf(t, client(t, registry.Options{Keychain: keychain}), host+"/team/app", amd64)
			if tc.ok != (err == nil) {
				t.Fatalf("got %v", err)
			}
			if tc.ok {
				return
			}
			want := "registry " + host + " refused to pull team/app (401, UNAUTHORIZED: authentication required): bind the workspace dockerconfig to a registry secret with the right to pull there"
			if !errors.Is(err, registry.ErrRejected) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestGoogleKeyServesGooglesRegistries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := `{"type":"service_account","private_key":"-----"}`
	write(t, filepath.Join(dir, "kaniko-secret"), key)
	keychain, err := registry.Credentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"gcr.io": key, "eu.gcr.io": key, "europe-docker.pkg.dev": key, "gcr.io.example": "", "index.docker.io": ""} {
		repository, err := name.NewRepository(host + "/a/b")
		if err != nil {
			t.Fatal(err)
		}
		auth, err := keychain.Resolve(repository)
		if err != nil {
			t.Fatal(err)
		}
		config, err := auth.Authorization()
		if err != nil || config.Password != want {
			t.Errorf("%s: got %q, %v, want %q", host, config.Password, err, want)
		}
	}
}

func TestBadSecretsAreNamedAndNotQuoted(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"not-json-but-secret": "workspace dockerconfig: config.json: not a Docker configuration",
		"":                    "workspace dockerconfig: config.json: not a Docker configuration",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "config.json"), content)
		_, err := registry.Credentials(dir)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "but-secret") {
			t.Errorf("%q: got %v", content, err)
		}
	}
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, "password"), "secret")
	if _, err := registry.Credentials(foreign); err == nil || !strings.HasPrefix(err.Error(), "workspace dockerconfig has none of config.json") {
		t.Errorf("a secret of another kind: got %v", err)
	}
	if _, err := registry.Credentials(t.TempDir()); err != nil {
		t.Errorf("an optional secret that does not exist: %v", err)
	}
	if _, err := registry.Credentials(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent secret was taken")
	}
}

func TestOptionsThatDoNotParseAreNamed(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]registry.Options{
		`registry-maps: "gcr.io" is not REGISTRY=HOST[/PREFIX]`:                {Maps: []string{"gcr.io"}},
		`registry-maps: "gcr.io=": "" is not HOST[:PORT][/PREFIX]`:             {Maps: []string{"gcr.io="}},
		`registry-mirrors: "http://m": "http://m" is not HOST[:PORT][/PREFIX]`: {Mirrors: []string{"http://m"}},
		`insecure-registries: "a/b" is not HOST[:PORT]`:                        {Insecure: []string{"a/b"}},
	} {
		if _, err := registry.New(o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestUnverifiedTLSIsForTheNamedRegistriesOnly(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(server.New(server.Logger(stdlog.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	tag, err := name.NewTag(strings.TrimPrefix(s.URL, "https://") + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(16, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := client(t, registry.Options{}).Push(t.Context(), tag, img, nil); err == nil {
		t.Error("pushed to a registry with an unknown certificate")
	}
	c := client(t, registry.Options{SkipTLSVerify: []string{tag.RegistryStr()}})
	updates := make(chan v1.Update, 64)
	if err := c.Push(t.Context(), tag, img, updates); err != nil {
		t.Error(err)
	}
	for range updates { // ends, since it is closed
	}
	if _, err := digestOf(t, c, tag.String(), amd64); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
