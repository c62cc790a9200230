package push

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/tag"
)

// output leaves the image in the workspace output, for other tasks.
type output struct{ plan.Output }

// write leaves the image, which is in the layout dir. Links in the workspace
// are not followed out of it.
func (o output) write(dir string, img v1.Image, destinations []tag.Destination, stderr io.Writer) error {
	if o.Layout == "" && o.Tar == "" {
		return nil
	}
	root, err := os.OpenRoot(o.Workspace)
	if err != nil {
		return fmt.Errorf("workspace output: %w", err)
	}
	defer root.Close()
	built, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("read the image that kaniko built: %w", err)
	}
	defer built.Close()
	if err := checkLayers(built, img); err != nil {
		return fmt.Errorf("read the image that kaniko built: %w", err)
	}
	if o.Layout != "" {
		if err := writeLayout(root, o.Layout, built, img); err != nil {
			return badOutput("oci-layout-path", o.Layout, err)
		}
		fmt.Fprintf(stderr, "output: %s is the image's OCI layout\n", o.Layout)
	}
	if o.Tar != "" {
		if err := writeTar(root, o.Tar, img, destinations); err != nil {
			return badOutput("tar-path", o.Tar, err)
		}
		fmt.Fprintf(stderr, "output: %s is the image, for docker load\n", o.Tar)
	}
	return nil
}

// badOutput says what to do about a volume that is not this user's.
func badOutput(param, path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return step.BadInput(fmt.Errorf("param %s: %s: %w: the step has user %d, whom the workspace output must let write (podTemplate.securityContext.fsGroup)", param, path, err, os.Getuid()))
	}
	return fmt.Errorf("param %s: %s: %w", param, path, err)
}

// checkLayers finds layers that are not what the manifest says: a registry
// does so itself.
func checkLayers(built *os.Root, img v1.Image) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, layer := range manifest.Layers {
		file, err := built.Open(blob(layer.Digest))
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		if hex.EncodeToString(hash.Sum(nil)) != layer.Digest.Hex {
			return fmt.Errorf("layer %s has another content", layer.Digest)
		}
	}
	return nil
}

// layoutVersion is the content of a layout's file oci-layout:
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// writeLayout copies the image to a folder that is new, empty or a layout
// already, whose image it replaces. index.json, which makes it one, comes last.
func writeLayout(root *os.Root, to string, from *os.Root, img v1.Image) error {
	if _, err := root.Stat(filepath.Join(to, "oci-layout")); errors.Is(err, fs.ErrNotExist) {
		if entries, err := fs.ReadDir(root.FS(), filepath.ToSlash(filepath.Clean(to))); err == nil && len(entries) > 0 {
			return step.BadInput(errors.New("the folder has other files"))
		}
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	if err := root.MkdirAll(filepath.Join(to, "blobs", digest.Algorithm), 0o755); err != nil {
		return err
	}
	for _, layer := range manifest.Layers {
		if err := copyFile(root, filepath.Join(to, blob(layer.Digest)), from, blob(layer.Digest)); err != nil {
			return err
		}
	}
	for _, file := range []struct {
		name    string
		content func() ([]byte, error)
	}{
		{blob(manifest.Config.Digest), img.RawConfigFile},
		{blob(digest), img.RawManifest},
		{"oci-layout", func() ([]byte, error) { return []byte(layoutVersion), nil }},
		{"index.json", func() ([]byte, error) { return index(img) }},
	} {
		content, err := file.content()
		if err == nil {
			err = writeFile(root, filepath.Join(to, file.name), func(w io.Writer) error {
				_, err := w.Write(content)
				return err
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(root *os.Root, to string, source *os.Root, from string) error {
	file, err := source.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	return writeFile(root, to, func(w io.Writer) error {
		_, err := io.Copy(w, file)
		return err
	})
}

// writeTar writes what "docker load" reads, with the destinations' names.
func writeTar(root *os.Root, to string, img v1.Image, destinations []tag.Destination) error {
	if err := root.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	images := map[name.Tag]v1.Image{}
	for _, destination := range destinations {
		images[destination.Tag] = img
	}
	return writeFile(root, to, func(w io.Writer) error { return tarball.MultiWrite(images, w) })
}

// writeFile writes a file that is complete or as it was before.
func writeFile(root *os.Root, to string, write func(io.Writer) error) (err error) {
	temporary := to + ".part"
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(write(file), file.Close()); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return root.Rename(temporary, to)
}
