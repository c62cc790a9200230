package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-ci/slipway/internal/step"
)

// withOutput binds the workspace output.
func (b *built) withOutput(t *testing.T, layoutPath, tarPath string) {
	t.Helper()
	must(t, os.MkdirAll(b.path("output"), 0o755))
	b.env["WORKSPACE_OUTPUT_PATH"] = b.path("output")
	b.env["PARAM_OCI_LAYOUT_PATH"], b.env["PARAM_TAR_PATH"] = layoutPath, tarPath
}

func TestOutput(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	b := newBuilt(t, host+"/app:v1")
	b.tagged(t, "v2")
	b.withOutput(t, "images/app", "images/app.tar")
	b.env["PARAM_PUSH"] = "false"
	for range 2 { // the second replaces the first
		code, stderr := b.run(t)
		if code != 0 || !strings.Contains(stderr, "not pushed: the param push says so\n") {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
	}
	if results := b.results(t); len(results) != 1 || results["build-report"] == "" {
		t.Errorf("results of what was not pushed: %q", results)
	}
	index, err := layout.ImageIndexFromPath(b.path("output/images/app"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(b.digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("the layout: %v", err)
	}
	for _, tag := range []string{"v1", "v2"} {
		tag, err := name.NewTag(host + "/app:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(b.path("output/images/app.tar"), &tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(img); err != nil {
			t.Errorf("the tar: %v", err)
		}
	}

	b.env["PARAM_PUSH"] = "true"
	if code, stderr := b.run(t); code != 0 || b.results(t)["IMAGE_DIGEST"] != b.digest.String() {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

func TestBadOutput(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		set  func(t *testing.T, b *built)
		code int
		want string
	}{
		"not bound": {
			func(_ *testing.T, b *built) { b.env["PARAM_TAR_PATH"] = "app.tar" }, step.ExitBadInput,
			"param tar-path: the workspace output, where the image would go, is not bound",
		},
		"outside": {
			func(t *testing.T, b *built) { b.withOutput(t, "../x", "") }, step.ExitBadInput,
			"param oci-layout-path: ../x is no path inside the workspace output",
		},
		"all of it": {
			func(t *testing.T, b *built) { b.withOutput(t, ".", "") }, step.ExitBadInput,
			"param oci-layout-path: . is no path inside the workspace output",
		},
		"a link that leads outside": {
			func(t *testing.T, b *built) {
				b.withOutput(t, "", "link/app.tar")
				must(t, os.Symlink(b.path("results"), b.path("output/link")))
			}, step.ExitFailed,
			"param tar-path: link/app.tar: mkdirat link: statat link: path escapes from parent",
		},
		"somebody's folder": {
			func(t *testing.T, b *built) {
				b.withOutput(t, "docs", "")
				must(t, os.MkdirAll(b.path("output/docs"), 0o755))
				b.write(t, "output/docs/index.md", "")
			}, step.ExitBadInput,
			"param oci-layout-path: docs: the folder has other files",
		},
		"nothing left": {
			func(_ *testing.T, b *built) { b.env["PARAM_PUSH"] = "false" }, step.ExitBadInput,
			`param push: with "false" nothing is left of the build; set the param oci-layout-path or tar-path too`,
		},
		"retries": {
			func(_ *testing.T, b *built) { b.env["PARAM_PUSH_RETRY"] = "9" }, step.ExitBadInput,
			"param push-retry: 9 is no number from 0 to 8",
		},
		"a forged layer": {
			func(t *testing.T, b *built) {
				b.withOutput(t, "", "app.tar")
				manifest := mustManifest(t, b)
				file := filepath.Join("layout/blobs/sha256", manifest.Layers[0].Digest.Hex)
				b.write(t, file, strings.Repeat("x", int(manifest.Layers[0].Size)))
			}, step.ExitFailed,
			"read the image that kaniko built: layer %s has another content",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newBuilt(t, "registry.example/app")
			tc.set(t, b)
			if strings.Contains(tc.want, "%s") {
				tc.want = fmt.Sprintf(tc.want, mustManifest(t, b).Layers[0].Digest)
			}
			b.mustFail(t, tc.code, tc.want)
		})
	}
}

func mustManifest(t *testing.T, b *built) *v1.Manifest {
	t.Helper()
	img, err := layout.Path(b.path("layout")).Image(b.digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}
