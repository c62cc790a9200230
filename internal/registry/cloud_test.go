package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipway-ci/slipway/internal/registry"
)

func resolve(t *testing.T, dir, host string) *authn.AuthConfig {
	t.Helper()
	keychain, err := registry.Credentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	repository, err := name.NewRepository(host + "/a/b")
	if err != nil {
		t.Fatal(err)
	}
	auth, err := keychain.Resolve(repository)
	if err != nil {
		t.Fatal(err)
	}
	config, err := auth.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// clouds gives this process an identity on AWS and Azure whose servers are on
// loopback, and counts what they are asked.
func clouds(t *testing.T) (asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetAuthorizationToken") {
			// "AWS:ecr-token"
			_, _ = io.WriteString(w, `{"authorizationData":[{"authorizationToken":"QVdTOmVjci10b2tlbg==","expiresAt":4102444800,"proxyEndpoint":"https://123456789012.dkr.ecr.eu-west-1.amazonaws.com"}]}`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	t.Cleanup(server.Close)
	environment := filepath.Join(t.TempDir(), "environment.json")
	write(t, environment, fmt.Sprintf(`{"name":"test","activeDirectoryEndpoint":%[1]q,"resourceManagerEndpoint":%[1]q}`, server.URL+"/"))
	for key, value := range map[string]string{
		"HOME":                  t.TempDir(),
		"AWS_ACCESS_KEY_ID":     "id",
		"AWS_SECRET_ACCESS_KEY": "key",
		"AWS_ENDPOINT_URL":      server.URL,
		"AWS_ECR_DISABLE_CACHE": "true",

		"AZURE_ENVIRONMENT":          "AZURESTACKCLOUD", // read the file
		"AZURE_ENVIRONMENT_FILEPATH": environment,
		"AZURE_CLIENT_ID":            "id",
		"AZURE_CLIENT_SECRET":        "key",
		"AZURE_TENANT_ID":            "tenant",
	} {
		t.Setenv(key, value)
	}
	return asked
}

func TestCloudIdentitiesAreAskedForTheirOwnRegistriesOnly(t *testing.T) {
	asked := clouds(t)
	for _, host := range []string{
		"index.docker.io", "ghcr.io", "registry.example:5000", "10.0.0.1:5000",
		"public.ecr.aws", "mcr.microsoft.com", // everyone may pull there
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com.example", "app.azurecr.io.example", "azurecr.io",
	} {
		if config := resolve(t, "", host); *config != (authn.AuthConfig{}) {
			t.Errorf("%s gets a login", host)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("for registries of nobody's cloud the clouds were asked %d times", n)
	}
	resolve(t, "", "app.azurecr.io")
	if asked.Load() == 0 {
		t.Error("nobody was asked for a login to Azure's registry")
	}
}

func TestAWSIdentity(t *testing.T) {
	asked := clouds(t)
	const host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	keychain, err := registry.Credentials("")
	if err != nil {
		t.Fatal(err)
	}
	for _, repository := range []string{"app", "base"} {
		target, err := name.NewRepository(host + "/" + repository)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := keychain.Resolve(target)
		if err != nil {
			t.Fatal(err)
		}
		config, err := auth.Authorization()
		if err != nil || config.Username != "AWS" || config.Password != "ecr-token" {
			t.Errorf("%s: got %q and a password of %d bytes, %v", repository, config.Username, len(config.Password), err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("one login was asked for %d times", n)
	}
	secret := t.TempDir()
	write(t, filepath.Join(secret, "config.json"), `{"auths":{"`+host+`":{"username":"robot","password":"secret-word"}}}`)
	if config := resolve(t, secret, host); config.Password != "secret-word" {
		t.Error("the secret does not come before the pod's identity")
	}
}

func TestCredentialHelpers(t *testing.T) {
	t.Parallel()
	const hint = `, a program of another machine: make a secret that has them in "auths", as "kubectl create secret docker-registry" does`
	for content, helper := range map[string]string{
		`{"auths":{"https://index.docker.io/v1/":{}},"credsStore":"desktop"}`:                   "desktop",
		`{"credsStore":"osxkeychain"}`:                                                          "osxkeychain",
		`{"credHelpers":{"registry.example":"pass","gcr.io":"gcr"}}`:                            "pass",
		`{"credHelpers":{"123456789012.dkr.ecr.eu-west-1.amazonaws.com":"ecr-login"}}`:          "", // the pod's identity does that
		`{"credsStore":"ecr-login"}`:                                                            "",
		`{"auths":{"registry.example":{"auth":"cm9ib3Q6c2VjcmV0"}},"credsStore":"osxkeychain"}`: "",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, ".dockerconfigjson"), content)
		_, err := registry.Credentials(dir)
		switch want := "workspace dockerconfig: .dockerconfigjson: its logins are with the credential helper docker-credential-" + helper + hint; {
		case helper == "" && err != nil:
			t.Errorf("%s: %v", content, err)
		case helper != "" && (err == nil || err.Error() != want):
			t.Errorf("%s: got %v\nwant %s", content, err, want)
		}
	}
}
