package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxArtifact is the most bytes read of an artifact.
const maxArtifact = 4 << 20

// emptyConfig is the config of an artifact, which has none
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidance-for-an-empty-descriptor).
const emptyConfig types.MediaType = "application/vnd.oci.empty.v1+json"

// ErrForeign is what an error is when a tag names something, and it is not what
// was asked for.
var ErrForeign = errors.New("it is something else")

// Artifact is the content of the artifact that a tag names: one layer of this
// media type. Nothing there is an [fs.ErrNotExist], something else an
// [ErrForeign]. Mirrors and maps are not asked.
func (c *Client) Artifact(ctx context.Context, tag name.Tag, mediaType types.MediaType) ([]byte, error) {
	found, err := c.Get(ctx, tag)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(found.Manifest))
	if err != nil || found.MediaType != types.OCIManifestSchema1 || manifest.ArtifactType != string(mediaType) ||
		len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != mediaType || manifest.Layers[0].Size > maxArtifact {
		return nil, fmt.Errorf("%s: %w, no %s", tag, ErrForeign, mediaType)
	}
	img, err := found.Image()
	if err != nil {
		return nil, explain(tag, "pull", err)
	}
	layer, err := img.LayerByDigest(manifest.Layers[0].Digest)
	if err != nil {
		return nil, explain(tag, "pull", err)
	}
	content, err := layer.Compressed()
	if err != nil {
		return nil, explain(tag, "pull", err)
	}
	defer content.Close()
	return io.ReadAll(io.LimitReader(content, manifest.Layers[0].Size))
}

// PutArtifact writes an artifact as Artifact reads it.
func (c *Client) PutArtifact(ctx context.Context, tag name.Tag, mediaType types.MediaType, content []byte) error {
	ref, err := c.reference(tag.RegistryStr(), tag.RepositoryStr(), tag)
	if err != nil {
		return err
	}
	pusher, err := remote.NewPusher(c.remoteOptions(ctx, ref)...)
	if err != nil {
		return err
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: string(mediaType)}
	for _, layer := range []v1.Layer{static.NewLayer([]byte("{}"), emptyConfig), static.NewLayer(content, mediaType)} {
		if err := pusher.Upload(ctx, ref.Context(), layer); err != nil {
			return pushError(ctx, ref, err)
		}
		described, err := describe(layer)
		if err != nil {
			return err
		}
		if manifest.Config.Size == 0 {
			manifest.Config = described
		} else {
			manifest.Layers = []v1.Descriptor{described}
		}
	}
	if err := pusher.Push(ctx, ref, artifact{manifest}); err != nil {
		return pushError(ctx, ref, err)
	}
	return nil
}

// artifact is a manifest that can be pushed.
type artifact struct{ manifest v1.Manifest }

func (a artifact) RawManifest() ([]byte, error)        { return json.Marshal(a.manifest) }
func (a artifact) MediaType() (types.MediaType, error) { return a.manifest.MediaType, nil }

func describe(layer v1.Layer) (v1.Descriptor, error) {
	digest, err := layer.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := layer.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := layer.MediaType()
	return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest}, err
}

// Existing is the image that a repository has under a digest; not an index, nor
// an artifact. Nothing there is an [fs.ErrNotExist], something else an
// [ErrForeign]. Mirrors and maps are not asked.
func (c *Client) Existing(ctx context.Context, image name.Digest) (v1.Image, error) {
	found, err := c.Get(ctx, image)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(found.Manifest))
	if err != nil || !found.MediaType.IsImage() || !manifest.Config.MediaType.IsConfig() {
		return nil, fmt.Errorf("%s: %w, no image", image, ErrForeign)
	}
	return found.Image()
}

func pushError(ctx context.Context, ref name.Reference, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return explain(ref, "push", err)
}
