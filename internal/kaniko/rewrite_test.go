package kaniko

import (
	"archive/tar"
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-ci/slipway/internal/plan"
)

// layerAt has a file and a link to it, as old as they may be.
func layerAt(t *testing.T, name string, at time.Time, options ...tarball.LayerOption) v1.Layer {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for _, header := range []*tar.Header{
		{Name: name, Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 7, Size: 4, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}},
		{Name: name + ".link", Typeflag: tar.TypeLink, Linkname: "/" + name}, // as kaniko has it
	} {
		header.ModTime, header.AccessTime, header.ChangeTime, header.Format = at, at, at, tar.FormatPAX
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if header.Size > 0 {
			if _, err := io.WriteString(archive, "data"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }, options...)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// builtAt is what kaniko leaves of a build upon a base, at some time.
func builtAt(t *testing.T, at time.Time, base v1.Layer, options ...tarball.LayerOption) *plan.Plan {
	t.Helper()
	return builtOf(t, at, base, layerAt(t, "app", at, options...))
}

func builtOf(t *testing.T, at time.Time, base v1.Layer, layers ...v1.Layer) *plan.Plan {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, append([]v1.Layer{base}, layers...)...)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.CreatedAt(img, v1.Time{Time: at}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	entry, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := entry.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	keep, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return &plan.Plan{Layout: dir, BaseLayers: []string{keep.String()}, Compression: "9", Reproducible: true}
}

func onlyImage(t *testing.T, dir string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("%+v, %v", manifest, err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// withoutTimes is the image of a plan once its layers are written anew: a valid one.
func withoutTimes(t *testing.T, p *plan.Plan) (v1.Image, v1.Hash) {
	t.Helper()
	if err := rewriteLayers(p); err != nil {
		t.Fatal(err)
	}
	img := onlyImage(t, p.Layout)
	if err := validate.Image(img); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return img, digest
}

func TestTimesAreForgotten(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	base := layerAt(t, "base", day)
	var digests []v1.Hash
	for _, at := range []time.Time{day, day.AddDate(0, 1, 0)} {
		p := builtAt(t, at, base)
		img, digest := withoutTimes(t, p)
		digests = append(digests, digest)
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if got := manifest.Layers[0].Digest.String(); got != p.BaseLayers[0] {
			t.Errorf("the base's layer %s became %s", p.BaseLayers[0], got)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if !config.Created.Equal(epoch) {
			t.Errorf("created %v", config.Created)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		content, err := layers[1].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		header, err := tar.NewReader(content).Next()
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(epoch) || !header.AccessTime.IsZero() || header.Mode != 0o4755 || header.Uid != 7 || header.PAXRecords["SCHILY.xattr.security.capability"] != "x" {
			t.Errorf("got %+v", header)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("one content gives %s and %s", digests[0], digests[1])
	}
}

// Newer versions of Docker refuse an image where a hard link leads to an absolute
// name, as kaniko writes it. The base's layers stay what the registry has.
func TestHardLinksLeadToRelativeNames(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, reproducible := range []bool{false, true} {
		p := builtAt(t, day, layerAt(t, "base", day))
		p.Reproducible = reproducible
		img, _ := withoutTimes(t, p)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		at := day
		if reproducible {
			at = epoch
		}
		if !config.Created.Equal(at) {
			t.Errorf("reproducible %t: created %v", reproducible, config.Created)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			link string
			at   time.Time
		}{{"/base", day}, {"app", at}} {
			content, err := layers[i].Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			archive := tar.NewReader(content)
			if header, err := archive.Next(); err != nil || !header.ModTime.Equal(want.at) {
				t.Errorf("reproducible %t: the file is %+v, %v", reproducible, header, err)
			}
			header, err := archive.Next()
			if err != nil || header.Typeflag != tar.TypeLink || header.Linkname != want.link || !header.ModTime.Equal(want.at) {
				t.Errorf("reproducible %t: the link is %+v, %v, want one to %s of %v", reproducible, header, err, want.link, want.at)
			}
		}
	}
}

// With a layer for each instruction, two that do the same leave one layer.
func TestTimesOfEqualLayersAreForgotten(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	app := layerAt(t, "app", day)
	p := builtOf(t, day, layerAt(t, "base", day), app, layerAt(t, "other", day), app)
	img, _ := withoutTimes(t, p)
	manifest, err := img.Manifest()
	if err != nil || len(manifest.Layers) != 4 {
		t.Fatalf("%+v, %v", manifest, err)
	}
	if layers := manifest.Layers; layers[1].Digest != layers[3].Digest || layers[1].Digest == layers[2].Digest {
		t.Errorf("the layers are %+v", layers)
	}
}

func TestTimesInZstandardLayersAreForgotten(t *testing.T) {
	t.Parallel()
	base := layerAt(t, "base", time.Now())
	p := builtAt(t, time.Now(), base, tarball.WithCompression("zstd"), tarball.WithMediaType(types.OCILayerZStd))
	if err := rewriteLayers(p); err != nil {
		t.Fatal(err)
	}
	layers, err := onlyImage(t, p.Layout).Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	if header, err := tar.NewReader(content).Next(); err != nil || !header.ModTime.Equal(epoch) {
		t.Errorf("got %+v, %v", header, err)
	}
}

// Whether kaniko heeds the wish for zstd depends on the base image's types, and
// what is pushed must not.
func TestLayersThatWereCompressedFastAreOfGzip(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	base := layerAt(t, "base", day)
	var digests []v1.Hash
	for _, options := range [][]tarball.LayerOption{
		{tarball.WithMediaType(types.OCILayer)},
		{tarball.WithCompression("zstd"), tarball.WithMediaType(types.OCILayerZStd)},
		{tarball.WithCompression("zstd"), tarball.WithMediaType(types.OCILayer)}, // as out of a docker archive
	} {
		p := builtAt(t, day, base, options...)
		p.Recompress = true
		img, digest := withoutTimes(t, p)
		digests = append(digests, digest)
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if got := manifest.Layers[1].MediaType; got != types.OCILayer {
			t.Errorf("the new layer is %s", got)
		}
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("one content gives %s", digests)
	}
}

func TestALayerIsTheSameHoweverManyCoresCompressIt(t *testing.T) {
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	text := make([]byte, 5*gzipBlock+123)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range text {
		text[i] = byte(random.IntN(7))
	}
	if err := archive.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	digests := map[v1.Hash][]int{}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, cores := range []int{1, 2, 9} {
		runtime.GOMAXPROCS(cores)
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		p := builtOf(t, time.Unix(1, 0), layerAt(t, "base", time.Unix(1, 0)), layer)
		_, digest := withoutTimes(t, p)
		digests[digest] = append(digests[digest], cores)
	}
	if len(digests) != 1 {
		t.Errorf("images by the cores that compressed them: %v, want one image", digests)
	}
}
