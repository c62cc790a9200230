package apiserver

import (
	"path/filepath"
	"testing"

	"github.com/slipway-ci/slipway/test/cluster/parts"
)

// binary is the program that becomes etcd or kube-apiserver by the name it is
// called.
func binary(t testing.TB) string {
	t.Helper()
	dir, err := parts.Ensure(t.Context(), "kubernetes", filepath.Join(t.ArtifactDir(), "kubernetes.log"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "kubernetes")
}
