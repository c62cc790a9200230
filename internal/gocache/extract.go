package gocache

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Inspect looks at what img has at [GoRoot], reading all of its layers.
func Inspect(ctx context.Context, img v1.Image) (*Toolchain, error) { return extract(ctx, img, "") }

// extract reads the layers of img and divides their content between the tree
// and the base in dir; with "" it only looks. The toolchain that it returns is
// Kept if the tree is whole.
func extract(ctx context.Context, img v1.Image, dir string) (*Toolchain, error) {
	e := &extraction{dirs: map[string]time.Time{}, sums: map[string]string{}, buffer: make([]byte, 64<<10)}
	defer e.leaveFolder()
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(config.Config.OnBuild) > 0 {
		e.unfit("the base image has ONBUILD instructions")
	}
	if dir := path.Clean(strings.TrimPrefix(config.Config.WorkingDir, "/")); dir != "." && (below(dir, goRoot) || below(goRoot, dir)) {
		e.unfit("the base image works in /%s", dir)
	}
	if slices.ContainsFunc(config.Config.Env, func(variable string) bool {
		return strings.HasPrefix(variable, "GOROOT=") && variable != "GOROOT="+GoRoot
	}) {
		e.unfit("the base image sets another GOROOT")
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var base []v1.Descriptor
	if dir != "" {
		if err := os.Mkdir(filepath.Join(dir, treeFolder), 0o755); err != nil {
			return nil, err
		}
		if e.tree, err = os.OpenRoot(filepath.Join(dir, treeFolder)); err != nil {
			return nil, err
		}
		defer e.tree.Close()
		if err := os.MkdirAll(filepath.Join(dir, baseFolder, "blobs", "sha256"), 0o755); err != nil {
			return nil, err
		}
	}
	for _, layer := range layers {
		if dir == "" {
			if err := e.read(ctx, layer, io.Discard); err != nil {
				return nil, err
			}
			continue
		}
		rest, err := addTar(filepath.Join(dir, baseFolder), func(w io.Writer) error { return e.read(ctx, layer, w) })
		if err != nil {
			return nil, err
		}
		base = append(base, *rest)
	}
	found := &Toolchain{Go: e.found, Env: string(e.env)}
	if e.found {
		if !e.program {
			e.unfit("it has no bin/go")
		}
		found.Problem = e.problem
	}
	if dir == "" || !e.found || e.problem != "" {
		return found, nil
	}
	if err := e.setTimes(); err != nil {
		return nil, err
	}
	if err := writeBase(filepath.Join(dir, baseFolder), config, base); err != nil {
		return nil, err
	}
	if err := writeManifest(dir, e.sums); err != nil {
		return nil, err
	}
	found.Kept = true
	return found, nil
}

// extraction is the state of a toolchain while the layers are applied.
type extraction struct {
	tree    *os.Root             // nil where it is only looked at
	dirs    map[string]time.Time // of the tree, with their times
	sums    map[string]string    // of what was written: SHA-256 of its files
	folder  *os.Root             // of the tree, where the last entry was written; may be nil
	name    string               // the folder's, in the tree
	buffer  []byte
	found   bool
	program bool   // it has bin/go
	problem string // the first reason why it cannot be kept, whether it is kept or looked at
	env     []byte
}

func (e *extraction) unfit(format string, args ...any) {
	if e.problem == "" {
		e.problem = fmt.Sprintf(format, args...)
	}
}

// Names as a layer has them.
const (
	goRoot     = "usr/local/go"
	whiteout   = ".wh."
	opaque     = ".wh..wh..opq"
	maxGoEnv   = 64 << 10
	xattrInPAX = "SCHILY.xattr."
)

// read applies a layer to the tree and writes a tar of all that is not of the
// tree to rest.
func (e *extraction) read(ctx context.Context, layer v1.Layer, rest io.Writer) error {
	uncompressed, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	content := ahead(uncompressed)
	defer content.Close()
	in, out := tar.NewReader(content), tar.NewWriter(rest)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read a layer: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		ours, err := e.apply(name, header, in)
		if err != nil {
			return err
		}
		if ours || e.tree == nil {
			continue
		}
		if err := out.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s again: %w", header.Name, err)
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	// What is left is read too: the layer is compared with its digest at its end
	// (BaseImages.Image), and nothing is kept before that.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	return out.Close()
}

// readAhead is how many bytes are decompressed while as many are written.
const readAhead = 1 << 20

// ahead reads on from source while what it has read is used, and closes it at
// its end or with itself.
func ahead(source io.ReadCloser) io.ReadCloser {
	in, out := io.Pipe()
	go func() {
		buffer := bufio.NewWriterSize(out, readAhead)
		_, err := io.Copy(buffer, source)
		out.CloseWithError(errors.Join(err, buffer.Flush(), source.Close()))
	}()
	return struct {
		io.Reader
		io.Closer
	}{bufio.NewReaderSize(in, readAhead), in}
}

// apply applies an entry to the tree, and reports whether it is part of it.
func (e *extraction) apply(name string, header *tar.Header, content io.Reader) (ours bool, err error) {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	switch removed, isWhiteout := strings.CutPrefix(base, whiteout); {
	case base == opaque:
		if below(dir, goRoot) || below(goRoot, dir) {
			e.unfit("a layer of its base image replaces /%s as a whole", dir)
		}
		return below(dir, goRoot), nil
	case isWhiteout:
		target := path.Join(dir, removed)
		switch {
		case below(goRoot, target):
			return target == goRoot, e.remove(".")
		case below(target, goRoot):
			return true, e.remove(strings.TrimPrefix(target, goRoot+"/"))
		}
		return false, nil
	}
	linked := strings.TrimPrefix(path.Clean("/"+header.Linkname), "/")
	if !below(name, goRoot) {
		switch {
		case header.Typeflag == tar.TypeLink && below(linked, goRoot):
			e.unfit("/%s is a hard link to /%s", name, linked)
		case name != "." && below(goRoot, name) && (header.Typeflag != tar.TypeDir || header.Mode&0o7777 != 0o755 || header.Uid != 0 || header.Gid != 0):
			// kaniko leaves these folders behind for later stages.
			e.unfit("/%s is not a folder that belongs to root with mode 755", name)
		}
		return false, nil
	}
	e.found = true
	switch {
	case header.Uid != 0 || header.Gid != 0:
		e.unfit("/%s belongs to user %d and group %d", name, header.Uid, header.Gid)
	case header.Typeflag == tar.TypeLink && !below(linked, goRoot+"/"):
		e.unfit("/%s is a hard link to /%s", name, linked)
	case name == goRoot && header.Typeflag != tar.TypeDir:
		e.unfit("/%s is not a folder", name)
	case !slices.Contains([]byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink}, header.Typeflag):
		e.unfit("/%s is neither a file, a folder nor a link", name)
	}
	if name == goRoot+"/bin/go" {
		e.program = header.Typeflag == tar.TypeReg
	}
	for record := range header.PAXRecords {
		if strings.HasPrefix(record, xattrInPAX) {
			e.unfit("/%s has extended attributes", name)
		}
	}
	if name == goRoot+"/go.env" {
		if header.Typeflag != tar.TypeReg {
			e.unfit("/%s is not a regular file", name)
		} else if e.env, err = io.ReadAll(io.LimitReader(content, maxGoEnv)); err != nil {
			return true, err
		}
		content = bytes.NewReader(e.env)
	}
	if e.tree == nil || e.problem != "" {
		return true, nil
	}
	return true, e.write(path.Clean("./"+strings.TrimPrefix(name, goRoot)), header, linked, content)
}

// below reports whether name is folder or lies in it.
func below(name, folder string) bool {
	return name == folder || folder == "." || strings.HasPrefix(name, strings.TrimSuffix(folder, "/")+"/")
}

func (e *extraction) remove(name string) error {
	switch name {
	case ".":
		e.found, e.program, e.env = false, false, nil
	case "go.env":
		e.env = nil
	case "bin", "bin/go":
		e.program = false
	}
	if e.tree == nil {
		return nil
	}
	e.leaveFolder()
	if name != "." {
		return e.tree.RemoveAll(name)
	}
	children, err := fs.ReadDir(e.tree.FS(), ".")
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := e.tree.RemoveAll(child.Name()); err != nil {
			return err
		}
	}
	return nil
}

// enter opens the folder of the tree that entries are written to. A layer has
// those of a folder one after the other, and a root looks at each part of a path
// anew: with thousands of files that is most of the time.
func (e *extraction) enter(name string) (*os.Root, error) {
	if e.folder != nil && e.name == name {
		return e.folder, nil
	}
	e.leaveFolder()
	if err := e.tree.MkdirAll(name, 0o755); err != nil {
		return nil, err
	}
	folder, err := e.tree.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	e.folder, e.name = folder, name
	return folder, nil
}

func (e *extraction) leaveFolder() {
	if e.folder != nil {
		e.folder.Close()
		e.folder = nil
	}
}

// write makes a file of the tree, in the place of whatever is there.
func (e *extraction) write(name string, header *tar.Header, linked string, content io.Reader) error {
	mode := header.FileInfo().Mode()
	if name != "." {
		folder, err := e.enter(path.Dir(name))
		if err != nil {
			return err
		}
		if info, err := folder.Lstat(path.Base(name)); err == nil && (!info.IsDir() || header.Typeflag != tar.TypeDir) {
			if err := folder.RemoveAll(path.Base(name)); err != nil {
				return err
			}
		}
	}
	switch header.Typeflag {
	case tar.TypeDir:
		if err := e.tree.MkdirAll(name, 0o755); err != nil {
			return err
		}
		e.dirs[name] = header.ModTime
		return e.tree.Chmod(name, mode)
	case tar.TypeSymlink:
		return e.tree.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return e.tree.Link(strings.TrimPrefix(linked, goRoot+"/"), name)
	case tar.TypeReg:
		file, err := e.folder.OpenFile(path.Base(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = io.CopyBuffer(io.MultiWriter(file, hash), content, e.buffer)
		if err := errors.Join(err, file.Chmod(mode), file.Close()); err != nil {
			return err
		}
		e.sums["/"+name] = hex.EncodeToString(hash.Sum(nil))
		return e.folder.Chtimes(path.Base(name), header.ModTime, header.ModTime)
	}
	return nil
}

// setTimes gives the folders their times, now that nothing is added to them.
func (e *extraction) setTimes() error {
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(e.dirs))) {
		if err := e.tree.Chtimes(dir, e.dirs[dir], e.dirs[dir]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// addTar stores what write writes as an uncompressed layer of the layout dir.
func addTar(dir string, write func(io.Writer) error) (*v1.Descriptor, error) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	file, err := os.CreateTemp(blobs, staging)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	size := &counter{}
	err = write(io.MultiWriter(file, hash, size))
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return nil, err
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	return &v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: size.n, Digest: digest},
		os.Rename(file.Name(), filepath.Join(blobs, digest.Hex))
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// writeBase completes the layout dir: an image of layers that has the settings
// of the image they are from.
func writeBase(dir string, config *v1.ConfigFile, layers []v1.Descriptor) error {
	config = config.DeepCopy()
	config.History = nil
	config.RootFS = v1.RootFS{Type: "layers"}
	for _, layer := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.Digest)
	}
	entry, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	configFile, err := addJSON(entry, config, types.OCIConfigJSON)
	if err != nil {
		return err
	}
	manifest, err := addJSON(entry, &v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        *configFile,
		Layers:        layers,
	}, types.OCIManifestSchema1)
	if err != nil {
		return err
	}
	return entry.AppendDescriptor(*manifest)
}

func addJSON(entry layout.Path, value any, mediaType types.MediaType) (*v1.Descriptor, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return &v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest},
		entry.WriteBlob(digest, io.NopCloser(bytes.NewReader(content)))
}
