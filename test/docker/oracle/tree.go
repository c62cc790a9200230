package oracle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// inode is a file as the image has it, under all its names.
type inode struct {
	kind         byte // a type of package tar's, without hard links
	mode         int64
	uid, gid     int
	target       string // of a symbolic link
	major, minor int64
	size         int64
	sum          string // of the content
	head         []byte // the content's beginning, for a person to see
	xattrs       map[string]string
	names        []string // sorted; set once all layers are applied
}

const (
	xattrPrefix    = "SCHILY.xattr."
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	// headSize is how much of a file is kept to be shown.
	headSize = 4096
	// maxLinks is how many symbolic links a path may lead through, as on Linux.
	maxLinks = 40
)

// tree is a file system as a runtime makes it of an image's layers. Paths have
// no leading slash; the root is "".
type tree struct {
	files    map[string]*inode
	problems []string        // what a reader of layers may refuse
	ofBase   map[string]bool // names that layers of the base image gave to files
}

// flatten applies an image's layers, one upon the other. The first of them, base
// in number, are the base image's.
func flatten(image v1.Image, base int) (*tree, error) {
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	t := &tree{files: map[string]*inode{"": {kind: tar.TypeDir, mode: 0o755}}, ofBase: map[string]bool{}}
	if len(config.RootFS.DiffIDs) != len(layers) {
		t.problem("the configuration names %d layers, the manifest %d", len(config.RootFS.DiffIDs), len(layers))
	}
	for n, layer := range layers {
		sum, err := t.applyLayer(layer)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", n+1, err)
		}
		if n < len(config.RootFS.DiffIDs) && sum != config.RootFS.DiffIDs[n].Hex {
			t.problem("layer %d has the content sha256:%s, the configuration says %s", n+1, sum, config.RootFS.DiffIDs[n])
		}
		if n+1 == base {
			for name := range t.files {
				t.ofBase[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		file := t.files[name]
		if !t.ofBase[name] {
			file.names = append(file.names, name)
		}
	}
	return t, nil
}

func (t *tree) problem(format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// applyLayer returns the sum of the layer's uncompressed content.
func (t *tree) applyLayer(layer v1.Layer) (string, error) {
	content, err := layer.Uncompressed()
	if err != nil {
		return "", err
	}
	defer content.Close()
	sum := sha256.New()
	tee := io.TeeReader(content, sum)
	archive := tar.NewReader(tee)
	unpacked := map[string]bool{} // paths of this layer, which its opaque folders do not mean
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		if err := t.applyEntry(header, archive, unpacked); err != nil {
			return "", fmt.Errorf("entry %s: %w", header.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // what pads the archive
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (t *tree) applyEntry(header *tar.Header, content io.Reader, unpacked map[string]bool) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := t.place(header.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case base == opaqueMarker:
		for below := range t.below(dir) {
			if !unpacked[below] {
				delete(t.files, below)
			}
		}
		return nil
	case strings.HasPrefix(base, whiteoutPrefix):
		// Docker and containerd remove it even where it is of this layer.
		t.remove(path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix)))
		return nil
	}
	t.makeParents(dir)
	made, err := t.entryInode(header, content)
	if err != nil {
		return err
	}
	before, exists := t.files[name]
	switch {
	case exists && before.kind == tar.TypeDir && made.kind == tar.TypeDir:
	case name == "" && made.kind != tar.TypeDir:
		return errors.New("the root is no folder")
	case exists && before != made:
		t.remove(name)
	}
	t.files[name] = made
	for at := name; ; at = path.Dir(at) {
		if at == "." || at == "" {
			break
		}
		unpacked[at] = true
	}
	return nil
}

func (t *tree) entryInode(header *tar.Header, content io.Reader) (*inode, error) {
	if header.Typeflag == tar.TypeLink {
		// https://github.com/moby/go-archive/issues/99: v0.3.0 to v0.3.2 refuse it, v0.3.3 takes it again.
		if strings.HasPrefix(header.Linkname, "/") {
			t.problem("/%s is a hard link with the absolute name %s: some versions of Docker do not load it", strings.TrimPrefix(header.Name, "/"), header.Linkname)
		}
		target, err := t.place(header.Linkname)
		if err != nil {
			return nil, err
		}
		linked, ok := t.files[target]
		if !ok {
			return nil, fmt.Errorf("it is a hard link to %s, which is not there", header.Linkname)
		}
		return linked, nil
	}
	made := &inode{
		kind: header.Typeflag, mode: header.Mode & 0o7777, uid: header.Uid, gid: header.Gid,
		target: header.Linkname, xattrs: map[string]string{},
	}
	if made.kind == tar.TypeChar || made.kind == tar.TypeBlock {
		made.major, made.minor = header.Devmajor, header.Devminor
	}
	for key, value := range header.PAXRecords {
		if attribute, ok := strings.CutPrefix(key, xattrPrefix); ok {
			made.xattrs[attribute] = value
		}
	}
	if made.kind != tar.TypeReg {
		return made, nil
	}
	sum, head := sha256.New(), &bytes.Buffer{}
	size, err := io.Copy(io.MultiWriter(sum, &firstBytes{head}), content)
	if err != nil {
		return nil, err
	}
	made.size, made.sum, made.head = size, hex.EncodeToString(sum.Sum(nil)), head.Bytes()
	return made, nil
}

// firstBytes keeps what is written first.
type firstBytes struct{ *bytes.Buffer }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.Buffer.Write(p[:min(len(p), headSize-f.Len())])
	return len(p), nil
}

// place is the path that an entry's name means: links of its folders are
// followed, below the root, as Docker and containerd do.
func (t *tree) place(name string) (string, error) {
	cleaned := strings.TrimPrefix(path.Clean("/"+name), "/")
	if slices.Contains(strings.Split(name, "/"), "..") {
		t.problem("the name %s leads upwards: Docker and containerd may refuse it", name)
	}
	dir, base := path.Split(cleaned)
	resolved, err := t.resolve(strings.TrimSuffix(dir, "/"), maxLinks)
	if err != nil {
		return "", err
	}
	return path.Join(resolved, base), nil
}

// resolve follows the links of a folder's path.
func (t *tree) resolve(dir string, links int) (string, error) {
	at := ""
	rest := strings.Split(dir, "/")
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		switch word {
		case "", ".":
			continue
		case "..":
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			continue
		}
		next := path.Join(at, word)
		file, ok := t.files[next]
		if !ok || file.kind != tar.TypeSymlink {
			at = next
			continue
		}
		if links--; links < 0 {
			return "", fmt.Errorf("too many symbolic links on the way to %s", dir)
		}
		if strings.HasPrefix(file.target, "/") {
			at = ""
		}
		rest = append(strings.Split(file.target, "/"), rest...)
	}
	return at, nil
}

func (t *tree) makeParents(dir string) {
	if dir == "" {
		return
	}
	file, ok := t.files[dir]
	if ok && file.kind == tar.TypeDir {
		return
	}
	t.makeParents(strings.TrimPrefix(path.Dir("/"+dir), "/"))
	t.problem("/%s has no entry of its own, but entries below it: its mode and owner are up to who unpacks it", dir)
	if ok {
		t.remove(dir)
	}
	t.files[dir] = &inode{kind: tar.TypeDir, mode: 0o755, xattrs: map[string]string{}}
}

func (t *tree) below(dir string) map[string]bool {
	prefix := dir + "/"
	if dir == "" {
		prefix = ""
	}
	below := map[string]bool{}
	for name := range t.files {
		if name != "" && strings.HasPrefix(name, prefix) && name != dir {
			below[name] = true
		}
	}
	return below
}

func (t *tree) remove(name string) {
	for below := range t.below(name) {
		delete(t.files, below)
	}
	delete(t.files, name)
}
