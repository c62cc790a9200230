package push

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-ci/slipway/internal/plan"
)

var (
	baseTime  = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	builtTime = time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.UTC)
)

func layerOf(t *testing.T, name string) v1.Layer {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// kanikos is an image as kaniko leaves it, in a layout: a base of one layer with
// a history, and a layer for each of the instructions.
func kanikos(t *testing.T, p *plan.Plan, instructions ...string) v1.Image {
	t.Helper()
	base := layerOf(t, "base")
	digest, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	p.BaseLayers = []string{digest.String()}
	adds := []mutate.Addendum{
		{Layer: base, History: v1.History{CreatedBy: "ADD rootfs", Created: v1.Time{Time: baseTime}}},
		{History: v1.History{CreatedBy: "ENV LANG=C", EmptyLayer: true, Created: v1.Time{Time: baseTime}}},
	}
	for i, by := range instructions {
		adds = append(adds, mutate.Addendum{Layer: layerOf(t, by+string(rune('a'+i))), History: v1.History{Author: "kaniko", CreatedBy: by, Created: v1.Time{Time: builtTime}}})
	}
	img, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), adds...)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.CreatedAt(img, v1.Time{Time: builtTime}); err != nil {
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
	read, err := built(dir)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// configuration is what BuildKit says, with a field that none of the types here has.
const configuration = `{"architecture":"arm64","variant":"v8","os":"linux","author":"me","rootfs":{"type":"","diff_ids":null},` +
	`"config":{"User":"7","Env":["PATH=/bin"],"Cmd":["/app"],"Labels":{"a":"b \"c\" <d>"},"ArgsEscaped":true,` +
	`"Healthcheck":{"Test":["CMD","/check"],"StartInterval":2000000000},"SomethingNew":{"kept":[1.5,12345678901234567890]}},"moby.buildkit.cache.v0":null}`

func TestWithConfig(t *testing.T) {
	t.Parallel()
	for _, reproducible := range []bool{false, true} {
		p := &plan.Plan{ImageConfig: json.RawMessage(configuration), Reproducible: reproducible}
		kaniko := kanikos(t, p, "RUN go build")
		img, err := withConfig(kaniko, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(img); err != nil {
			t.Errorf("reproducible %t: it is no valid image: %v", reproducible, err)
		}
		was, err := kaniko.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := img.RawConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatal(err)
		}
		var given map[string]json.RawMessage
		if err := json.Unmarshal([]byte(configuration), &given); err != nil {
			t.Fatal(err)
		}
		for name, want := range given {
			if got := string(fields[name]); name != "rootfs" && decoded(t, got) != decoded(t, string(want)) {
				t.Errorf("reproducible %t: %s is %s, want %s", reproducible, name, got, want)
			}
		}
		var rootfs v1.RootFS
		if err := json.Unmarshal(fields["rootfs"], &rootfs); err != nil || !reflect.DeepEqual(rootfs, was.RootFS) {
			t.Errorf("rootfs is %+v, %v, want %+v", rootfs, err, was.RootFS)
		}
		created, there := fields["created"]
		if want := `"2026-05-06T07:08:09.123456789Z"`; there == reproducible || there && string(created) != want {
			t.Errorf("reproducible %t: created is %s, want %s", reproducible, created, want)
		}
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		name, err := img.ConfigName()
		if err != nil || manifest.Config.Digest != name || manifest.Config.Size != int64(len(raw)) || manifest.Config.MediaType != types.OCIConfigJSON {
			t.Errorf("the manifest names the configuration %+v, not %s of %d bytes (%v)", manifest.Config, name, len(raw), err)
		}
		layer, err := img.LayerByDigest(name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(content); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("the configuration's blob is %s, %v", got, err)
		}
		for _, layer := range manifest.Layers {
			if _, err := img.LayerByDigest(layer.Digest); err != nil {
				t.Error(err)
			}
		}
	}
}

// decoded is JSON in one form, its numbers as they are written.
func decoded(t *testing.T, text string) string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// The same content is the same image in a reproducible build, and only there.
func TestDigestOfWithConfig(t *testing.T) {
	t.Parallel()
	for _, reproducible := range []bool{true, false} {
		digests := map[v1.Hash]bool{}
		for _, at := range []time.Time{builtTime, builtTime.Add(time.Hour)} {
			p := &plan.Plan{ImageConfig: json.RawMessage(configuration), Reproducible: reproducible}
			img, err := mutate.CreatedAt(kanikos(t, p, "RUN go build"), v1.Time{Time: at})
			if err != nil {
				t.Fatal(err)
			}
			if img, err = withConfig(img, p); err != nil {
				t.Fatal(err)
			}
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			digests[digest] = true
		}
		if same := len(digests) == 1; same != reproducible {
			t.Errorf("reproducible %t: the digests are %v", reproducible, digests)
		}
	}
}

// TestHistory: the base's stays, and a new layer has the instruction as the user
// wrote it.
func TestHistory(t *testing.T) {
	t.Parallel()
	at := v1.Time{Time: builtTime}
	const operation = `["/slipway/bin/prepare","operation","/slipway","0","1"]`
	for _, reproducible := range []bool{false, true} {
		p := &plan.Plan{ImageConfig: json.RawMessage(configuration), Reproducible: reproducible, Runs: []plan.Run{
			{Line: 3, Text: "COPY . .", As: operation, Copies: true},
			{Line: 4, Text: "go build", As: "go build"},
			{Line: 5, Text: "<<EOF", As: `["/slipway/bin/prepare","operation","/slipway","2"]`},
		}}
		img, err := withConfig(kanikos(t, p, "RUN "+operation, "RUN --mount=type=cache,target=/x go build", `RUN --mount=type=secret,id=x ["/slipway/bin/prepare","operation","/slipway","2"]`, "RUN something else"), p)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		want := []v1.History{
			{CreatedBy: "ADD rootfs", Created: v1.Time{Time: baseTime}},
			{CreatedBy: "ENV LANG=C", EmptyLayer: true, Created: v1.Time{Time: baseTime}},
		}
		for _, by := range []string{"COPY . .", "RUN go build", "RUN <<EOF", "RUN something else"} {
			one := v1.History{Author: "slipway", CreatedBy: by, Created: at}
			if reproducible {
				one.Created = v1.Time{}
			}
			want = append(want, one)
		}
		if diff := cmp.Diff(want, config.History); diff != "" {
			t.Errorf("reproducible %t (-want +got):\n%s", reproducible, diff)
		}
	}
}

// A plan without a configuration leaves the image as it is; one that cannot be
// read is an error.
func TestWithoutConfig(t *testing.T) {
	t.Parallel()
	p := &plan.Plan{}
	kaniko := kanikos(t, p, "RUN go build")
	if img, err := withConfig(kaniko, p); err != nil || img != kaniko {
		t.Errorf("got %v, %v", img, err)
	}
	p.ImageConfig = json.RawMessage(`[]`)
	if img, err := withConfig(kaniko, p); err == nil {
		t.Errorf("of no configuration: %v", img)
	}
}

// What is written as a layout names the one image.
func TestIndex(t *testing.T) {
	t.Parallel()
	p := &plan.Plan{ImageConfig: json.RawMessage(configuration)}
	img, err := withConfig(kanikos(t, p, "RUN go build"), p)
	if err != nil {
		t.Fatal(err)
	}
	content, err := index(img)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := v1.ParseIndexManifest(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	size, err := img.Size()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != digest || manifest.Manifests[0].Size != size || manifest.Manifests[0].MediaType != types.OCIManifestSchema1 {
		t.Errorf("got %s, %v", content, err)
	}
}
