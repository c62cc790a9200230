package kaniko

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/slipway-ci/slipway/internal/plan"
)

// epoch stands for every time in an image that has none.
var epoch = time.Unix(0, 0).UTC()

// Layers are compressed in blocks of gzipBlock bytes, of which at most
// maxGzipBlocks are in memory.
const (
	gzipBlock     = 1 << 20
	maxGzipBlocks = 4
)

// rewriteLayers writes the new layers of the one image of the plan's layout anew,
// with headers as Docker writes them: the name that a hard link leads to is
// relative, without which newer versions of Docker refuse the image
// (https://github.com/moby/go-archive/issues/99). In a reproducible build files
// and configuration lose their times too, so that the same content is the same
// image.
//
// kaniko's --reproducible does that by compressing each layer again, the base
// image's too: that takes longer the larger the base is, and makes layers that
// no registry has.
func rewriteLayers(p *plan.Plan) error {
	layout, blobs := p.Layout, filepath.Join(p.Layout, "blobs", "sha256")
	level := pgzip.BestSpeed
	if given, err := strconv.Atoi(p.Compression); err == nil {
		level = given
	}
	var index v1.IndexManifest
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s has %d images, not one", layout, len(index.Manifests))
	}
	var manifest v1.Manifest
	if err := readJSON(filepath.Join(blobs, index.Manifests[0].Digest.Hex), &manifest); err != nil {
		return err
	}
	var config v1.ConfigFile
	if err := readJSON(filepath.Join(blobs, manifest.Config.Digest.Hex), &config); err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return fmt.Errorf("its config has %d layers and its manifest %d", len(config.RootFS.DiffIDs), len(manifest.Layers))
	}
	// Two instructions may have left one layer: the second finds it written anew.
	type written struct {
		layer  v1.Descriptor
		diffID v1.Hash
	}
	done := map[v1.Hash]written{} // by the digest that was
	for i := range manifest.Layers {
		layer := &manifest.Layers[i]
		if slices.Contains(p.BaseLayers, layer.Digest.String()) {
			continue
		}
		was := layer.Digest
		if _, ok := done[was]; !ok {
			diffID, err := rewriteLayer(blobs, layer, level, p)
			if err != nil {
				return fmt.Errorf("layer %s: %w", was, err)
			}
			done[was] = written{*layer, diffID}
		}
		*layer, config.RootFS.DiffIDs[i] = done[was].layer, done[was].diffID
	}
	if p.Reproducible {
		config.Created = v1.Time{Time: epoch}
	}
	var err error
	if manifest.Config.Digest, manifest.Config.Size, err = writeJSON(blobs, &config); err != nil {
		return err
	}
	descriptor := &index.Manifests[0]
	if descriptor.Digest, descriptor.Size, err = writeJSON(blobs, &manifest); err != nil {
		return err
	}
	content, err := json.Marshal(&index)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(layout, "index.json"), content, 0o644)
}

// rewriteLayer writes a layer anew, and returns the digest of its tar.
func rewriteLayer(blobs string, layer *v1.Descriptor, level int, p *plan.Plan) (v1.Hash, error) {
	old := filepath.Join(blobs, layer.Digest.Hex)
	source, err := os.Open(old)
	if err != nil {
		return v1.Hash{}, err
	}
	defer source.Close()
	file, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer file.Close()

	compressed, plain := sha256.New(), sha256.New()
	in, err := decompress(source)
	if err != nil {
		return v1.Hash{}, err
	}
	defer in.Close()
	if p.Recompress && layer.MediaType == types.OCILayerZStd {
		layer.MediaType = types.OCILayer
	}
	out, err := compress(layer.MediaType, io.MultiWriter(file, compressed), level)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := rewriteTar(io.MultiWriter(out, plain), in, !p.Reproducible); err != nil {
		return v1.Hash{}, err
	}
	if err := errors.Join(out.Close(), file.Close()); err != nil {
		return v1.Hash{}, err
	}
	info, err := os.Stat(file.Name())
	if err != nil {
		return v1.Hash{}, err
	}
	layer.Digest, layer.Size = digest(compressed.Sum(nil)), info.Size()
	if err := os.Remove(old); err != nil {
		return v1.Hash{}, err
	}
	return digest(plain.Sum(nil)), os.Rename(file.Name(), filepath.Join(blobs, layer.Digest.Hex))
}

// decompress and compress work beside their caller, each on cores of its own.

// decompress goes by what is there: of a stage that was kept as a docker archive,
// say, layers of zstd are typed as if they were of gzip.
func decompress(in io.Reader) (io.ReadCloser, error) {
	start := bufio.NewReader(in)
	if magic, err := start.Peek(len(zstdMagic)); err != nil || string(magic) != zstdMagic {
		return pgzip.NewReader(start)
	}
	reader, err := zstd.NewReader(start)
	if err != nil {
		return nil, err
	}
	return reader.IOReadCloser(), nil
}

// zstdMagic starts a frame: RFC 8878, section 3.1.1.
const zstdMagic = "\x28\xb5\x2f\xfd"

func compress(mediaType types.MediaType, out io.Writer, level int) (io.WriteCloser, error) {
	if mediaType == types.OCILayerZStd {
		return zstd.NewWriter(out, zstd.WithEncoderConcurrency(1))
	}
	// What it writes depends on the size of its blocks, not on their number.
	writer, err := pgzip.NewWriterLevel(out, level)
	if err != nil {
		return nil, err
	}
	return writer, writer.SetConcurrency(gzipBlock, min(runtime.GOMAXPROCS(0), maxGzipBlocks))
}

func rewriteTar(to io.Writer, from io.Reader, withTimes bool) error {
	in, out := tar.NewReader(from), tar.NewWriter(to)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeLink {
			header.Linkname = strings.TrimLeft(header.Linkname, "/")
		}
		if !withTimes {
			header.ModTime = epoch
		}
		header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
		header.Format = tar.FormatPAX
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

func readJSON(path string, value any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, value); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeJSON(blobs string, value any) (v1.Hash, int64, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return v1.Hash{}, 0, err
	}
	hash, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		return v1.Hash{}, 0, err
	}
	return hash, size, os.WriteFile(filepath.Join(blobs, hash.Hex), content, 0o644)
}

func digest(sum []byte) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum)}
}
