package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	containers "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/flow"
)

const (
	fromCache = ""
	twoGos    = "golang:alpine and golang:second both have one"
)

// What a cache holds, and where Go comes from, is nothing that an image shows:
// Dockerfiles of many makes give the same one without any cache, with caches
// but the base image's own Go, and with Go from the volume.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.pushSecondGo(t)
	s.holdSameBytes(t, map[string]string{
		"another-user":              fromCache,
		"another-user-one-stage":    fromCache,
		"buildkit-cache-mounts":     fromCache,
		"cgo":                       fromCache,
		"copied-modules":            fromCache,
		"cgo-static-trimpath":       fromCache,
		"deleted-in-the-last-stage": fromCache,
		"folder-above-go":           "folder-above-go.Dockerfile:6: WORKDIR makes /usr/local",
		"go-env-w":                  fromCache,
		"go-from-another-image":     "go-from-another-image.Dockerfile:2: COPY copies from /usr/local/go",
		"goflags":                   fromCache,
		"gopath-cache-mount":        fromCache,
		"heredoc":                   fromCache,
		"home-elsewhere":            fromCache,
		"modules-first":             fromCache,
		"modules-in-the-image":      fromCache,
		"one-stage":                 fromCache,
		"one-stage-trimpath":        fromCache,
		"stages-of-stages":          fromCache,
		"two-gos":                   twoGos,
		"two-stages":                fromCache,
		"two-stages-trimpath":       fromCache,
		"workspace-and-args":        fromCache,
		"writes-where-it-must-not":  fromCache,
		"writes-to-goroot":          "writes-to-goroot.Dockerfile:2: RUN names /usr/local/go/VERSION.local",
		"zone-information":          "zone-information.Dockerfile:6: COPY copies from /usr/local/go",
	})
}

// TestSameBytesOfAFew is TestSameBytes with what `make test` has the time for.
func TestSameBytesOfAFew(t *testing.T) {
	t.Parallel()
	newSite(t).holdSameBytes(t, map[string]string{
		"another-user-one-stage": fromCache,
		"buildkit-cache-mounts":  fromCache,
		"copied-modules":         fromCache,
		"two-stages":             fromCache,
	})
}

// holdSameBytes builds samples in each way; noToolchain is what the report says
// of each.
func (s *site) holdSameBytes(t *testing.T, samples map[string]string) {
	t.Helper()
	s.fetchSamples(t)
	for name, noToolchain := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cold, _ := s.buildSample(t, name, "true")
			own, _ := s.buildSample(t, name, "false", s.caches()...)
			kept, report := s.buildSample(t, name, "true", s.caches()...)
			if own != cold {
				t.Errorf("with caches it is %s, without %s", own, cold)
			}
			if kept != cold {
				t.Errorf("with Go from the volume it is %s, without %s", kept, cold)
			}
			if report.NoToolchain != noToolchain {
				t.Errorf("Go is not from the volume because %q, want %q", report.NoToolchain, noToolchain)
			}
			if report.Compiled == nil {
				t.Error("how many packages were compiled is not known")
			} else if *report.Compiled != 0 {
				t.Errorf("%d packages were compiled again", *report.Compiled)
			}
		})
	}
}

// fetchSamples puts testdata/dockerfiles where buildSample finds it.
func (s *site) fetchSamples(t *testing.T) {
	t.Helper()
	app := s.appFrom(t, flow.App{Name: "greet"}, filepath.Join("testdata", "dockerfiles"))
	s.task(t, "git-clone", v1.TaskRunSpec{
		Params:     v1.Params{stringParam("url", app.URL()), stringParam("revision", app.push(t))},
		Workspaces: []v1.WorkspaceBinding{s.claim("output", "samples")},
	})
}

// buildSample builds a Dockerfile of testdata/dockerfiles.
func (s *site) buildSample(t *testing.T, name, toolchain string, caches ...v1.WorkspaceBinding) (digest string, report flow.Report) {
	t.Helper()
	results := s.task(t, "slipway-build", v1.TaskRunSpec{
		Params: v1.Params{
			stringParam("image", s.Images+"greet:"+name),
			stringParam("dockerfile", name+".Dockerfile"),
			stringParam("go-proxy", s.GoProxy),
			stringParam("toolchain-cache", toolchain),
			stringParam("skip-unchanged", "false"),
			{Name: "registry-maps", Value: flow.Array(s.RegistryMaps...)},
			{Name: "insecure-registries", Value: flow.Array(s.InsecureRegistry)},
		},
		Workspaces: append(caches, s.claim("source", "samples")),
	})
	if err := json.Unmarshal([]byte(results["build-report"]), &report); err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s, %s, %s", report.Seconds, results["build-report"], results["IMAGE_DIGEST"])
	return results["IMAGE_DIGEST"], report
}

// caches binds the workspaces of a build's caches to the site's claim.
func (s *site) caches() []v1.WorkspaceBinding {
	return []v1.WorkspaceBinding{s.claim("cache", "cache"), s.claim("toolchains", "cache/toolchains")}
}

// claim binds a workspace to a folder of the site's claim.
func (s *site) claim(workspace, subPath string) v1.WorkspaceBinding {
	return v1.WorkspaceBinding{
		Name: workspace, SubPath: subPath,
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "slipway"},
	}
}

func stringParam(name, value string) v1.Param {
	return v1.Param{Name: name, Value: *v1.NewStructuredValues(value)}
}

// pushSecondGo gives the registry golang:second, which differs from
// golang:alpine in a file of Go's.
func (s *site) pushSecondGo(t *testing.T) {
	t.Helper()
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	if err := archive.WriteHeader(&tar.Header{Name: "usr/local/go/SECOND", Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := mutate.AppendLayers(s.pullTag(t, "library/golang", "alpine"), static.NewLayer(layer.Bytes(), types.DockerUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	s.push(t, "library/golang", "second", second)
}

// pullTag and push are for images that tests of other Dockerfiles use too.
func (s *site) pullTag(t *testing.T, repository, tag string) containers.Image {
	t.Helper()
	ref, options := s.inRegistry(t, repository, tag)
	img, err := remote.Image(ref, options...)
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return img
}

func (s *site) push(t *testing.T, repository, tag string, img containers.Image) {
	t.Helper()
	ref, options := s.inRegistry(t, repository, tag)
	if err := remote.Write(ref, img, options...); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
}

// inRegistry names a tag, and tells how to reach it from outside a pod.
func (s *site) inRegistry(t *testing.T, repository, tag string) (name.Tag, []remote.Option) {
	t.Helper()
	options := []name.Option{}
	if s.InsecureRegistry == s.Registry {
		options = append(options, name.Insecure)
	}
	ref, err := name.NewTag(s.Registry+"/"+repository+":"+tag, options...)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if cluster.Local() {
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(cluster.NodeIP, port))
		}
	}
	return ref, []remote.Option{remote.WithContext(t.Context()), remote.WithTransport(transport)}
}
