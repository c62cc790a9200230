package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/test/docker/corpus"
	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// TestShapes derives and builds Dockerfiles of the shapes that public ones have,
// each as the command corpus does.
func TestShapes(t *testing.T) {
	files, err := filepath.Glob("testdata/shapes/*.Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d Dockerfiles, %v", len(files), err)
	}
	o, err := oracle.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".Dockerfile"), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			derived := corpus.Derive(t.Context(), content)
			if derived.Panic+derived.Refused+derived.BuildKit != "" {
				t.Fatalf("%+v", derived)
			}
			result, err := checkMade(t.Context(), o, content, derived.Args, filepath.Join(t.TempDir(), "context"))
			if err != nil {
				t.Fatal(err)
			}
			if result.Verdict != oracle.Equal || result.Why != "" {
				t.Errorf("%s\nBuildKit says:\n%s\nSlipway says:\n%s", result, result.BuildKitLog, result.SlipwayLog)
			}
		})
	}
}
