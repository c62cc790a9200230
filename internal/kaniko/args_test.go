package kaniko_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/kaniko"
)

func TestArgs(t *testing.T) {
	t.Parallel()
	got, err := kaniko.Args(kaniko.Options{
		Dockerfile:                  "/slipway/Dockerfile",
		Context:                     "/workspace/source/app",
		Targets:                     []string{"final", "before"},
		Layout:                      "/slipway-built/layout",
		BaseImages:                  "/slipway/bases",
		BuildArgs:                   []string{"A=1", "B=two words"},
		IgnorePaths:                 []string{"/go/pkg/mod"},
		SingleSnapshot:              true,
		IgnoreVarRun:                true,
		SnapshotMode:                "redo",
		CompressionLevel:            "1",
		Verbosity:                   "info",
		Force:                       true,
		LogTimestamp:                true,
		ImageFSExtractRetry:         1,
		ImageDownloadRetry:          3,
		RegistryMirrors:             []string{"mirror.example"},
		RegistryMaps:                []string{"gcr.io=mirror.example/gcr"},
		InsecureRegistries:          []string{"mirror.example"},
		SkipTLSVerifyRegistries:     []string{"other.example"},
		SkipDefaultRegistryFallback: true,
		Extra:                       []string{"--annotation=a=b", "--image-fs-extract-retry=2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(`--dockerfile=/slipway/Dockerfile
--context=dir:///workspace/source/app
--no-push
--pre-cleanup
--oci-layout-path=/slipway-built/layout
--cache=true
--cache-dir=/slipway/bases
--cache-ttl=87600h
--cache-run-layers=false
--cache-copy-layers=false
--single-snapshot=true
--use-new-run=false
--ignore-var-run=true
--log-timestamp=true
--image-fs-extract-retry=1
--image-download-retry=3
--no-push-cache
--snapshot-mode=redo
--compression-level=1
--verbosity=info
--target=final
--target=before
--build-arg=A=1
--build-arg=B=two words
--ignore-path=/go/pkg/mod
--registry-mirror=mirror.example
--registry-map=gcr.io=mirror.example/gcr
--insecure-registry=mirror.example
--skip-tls-verify-registry=other.example
--skip-default-registry-fallback
--force
--annotation=a=b
--image-fs-extract-retry=2`, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestArgsThatWouldUndoThePlanAreRefusedByName(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		o    kaniko.Options
		want string
	}{
		{kaniko.Options{Extra: []string{"--destination=elsewhere"}}, "param kaniko-args: --destination is decided by the task's own params; remove it"},
		{kaniko.Options{Extra: []string{"--annotation=a=b", "--no-push=false"}}, "param kaniko-args: --no-push is decided by the task's own params; remove it"},
		{kaniko.Options{Extra: []string{"--cache-dir"}}, "param kaniko-args: --cache-dir is decided by the task's own params; remove it"},
		{kaniko.Options{Extra: []string{"--label=a=b"}}, "param kaniko-args: --label is decided by the task's own params; remove it"},
		{kaniko.Options{Extra: []string{"-d=elsewhere"}}, `param kaniko-args: "-d=elsewhere" is neither --name nor --name=value`},
		{kaniko.Options{Extra: []string{"--annotation", "a=b"}}, `param kaniko-args: "a=b" is neither --name nor --name=value`},
		{kaniko.Options{Extra: []string{"--"}}, `param kaniko-args: "--" is neither --name nor --name=value`},
		{kaniko.Options{SnapshotMode: "fast"}, `param snapshot-mode: "fast" is none of full, redo and time`},
		{kaniko.Options{CompressionLevel: "0"}, `param compression-level: "0" is no number from 1 to 9`},
		{kaniko.Options{LayerCache: "oci:/x", SingleSnapshot: true}, `param layer-cache-repo: single instructions have layers only with the param single-snapshot "false"`},
	} {
		if _, err := kaniko.Args(tc.o); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

// What skaffold.yaml can say and this cannot is refused by its name.
func TestArgsThatAreRefused(t *testing.T) {
	t.Parallel()
	const before = "kaniko writes it before anything is pushed; the results IMAGE_URL and IMAGE_DIGEST are set once the registry has the image"
	for arg, why := range map[string]string{
		"--digest-file=/x":                     before,
		"--image-name-with-digest-file=/x":     before,
		"--image-name-tag-with-digest-file=/x": before,
		"--log-format=json":                    "the last line of a failure is found by its text",
	} {
		name, _, _ := strings.Cut(arg, "=")
		if _, err := kaniko.Args(kaniko.Options{Extra: []string{arg}}); err == nil || err.Error() != "param kaniko-args: "+name+" is refused: "+why {
			t.Errorf("%s: got %v", arg, err)
		}
	}
}

// What kaniko compresses for nothing but to be compressed anew costs as little as it can.
func TestArgsOfWhatIsRecompressed(t *testing.T) {
	t.Parallel()
	got, err := kaniko.Args(kaniko.Options{CompressionLevel: "9", Recompressed: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--compression=zstd", "--compression-level=1"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

// COPY is a RUN to kaniko.
func TestLayerCacheArgs(t *testing.T) {
	t.Parallel()
	got, err := kaniko.Args(kaniko.Options{LayerCache: "oci:/slipway-built/layers/layer", CacheRun: true})
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(got, "\n") + "\n"
	for _, want := range []string{"--cache-repo=oci:/slipway-built/layers/layer", "--cache-run-layers=true", "--cache-copy-layers=false"} {
		if !strings.Contains(args, want+"\n") {
			t.Errorf("no %s in\n%s", want, args)
		}
	}
	if strings.Contains(args, "--no-push-cache") {
		t.Errorf("the cache is never filled:\n%s", args)
	}
}
