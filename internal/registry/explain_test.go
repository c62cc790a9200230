package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

// From within the package: go-containerregistry asks registries on loopback
// over plain HTTP as well, so no test server gets it to fail like this.
func TestARegistryWithoutTLSIsNamed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(server.URL, "http:", "https:", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, mismatch := http.DefaultClient.Do(request)
	if mismatch == nil {
		t.Fatal("a server without TLS answered over TLS", response.Body.Close())
	}
	ref, err := name.ParseReference("registry.example:5000/app")
	if err != nil {
		t.Fatal(err)
	}
	got := explain(ref, "push", mismatch)
	want := "registry registry.example:5000 speaks plain HTTP: if its network can be trusted, name it in the param insecure-registries"
	if got.Error() != want || !errors.Is(got, ErrRejected) {
		t.Errorf("got %v, want %s", got, want)
	}
}
