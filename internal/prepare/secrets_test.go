package prepare

import (
	"bytes"
	"strings"
	"testing"
)

func TestAnnotatedSecretsAreTold(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tellAnnotated([]string{"/workspace/source", "/tekton/creds-secrets/registry-login", "/tekton/creds"}, &log{out: &out})
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "the secret registry-login is annotated on the run's service account, where every RUN can read it: ") {
		t.Errorf("got %q", got)
	}
}
