package registry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipway-ci/slipway/internal/registry"
)

// On Google Cloud the pod's identity logs in to Google's registries, and to no
// other.
func TestGoogleIdentity(t *testing.T) {
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"identity-token","expires_in":3600,"token_type":"Bearer"}`)
		}
	}))
	t.Cleanup(metadata.Close)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(metadata.URL, "http://"))
	t.Setenv("HOME", t.TempDir())
	secret := t.TempDir()
	write(t, filepath.Join(secret, "config.json"), `{"auths":{"eu.gcr.io":{"username":"robot","password":"secret-word"}}}`)

	for _, tc := range []struct{ dir, host, want string }{
		{"", "gcr.io", "identity-token"},
		{"", "europe-docker.pkg.dev", "identity-token"},
		{"", "index.docker.io", ""},
		{secret, "gcr.io", "identity-token"},
		{secret, "eu.gcr.io", "secret-word"},
	} {
		keychain, err := registry.Credentials(tc.dir)
		if err != nil {
			t.Fatal(err)
		}
		repository, err := name.NewRepository(tc.host + "/a/b")
		if err != nil {
			t.Fatal(err)
		}
		auth, err := keychain.Resolve(repository)
		if err != nil {
			t.Fatal(err)
		}
		config, err := auth.Authorization()
		if err != nil || config.Password != tc.want {
			t.Errorf("%s: got %q, %v, want %q", tc.host, config.Password, err, tc.want)
		}
	}
}
