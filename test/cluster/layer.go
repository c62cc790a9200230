package cluster

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layer collects the files of one image layer. Paths are those inside the
// image, with directories added as needed.
type layer struct {
	entries map[string]entry
	err     error
}

type entry struct {
	header tar.Header
	source string // a file on this machine, or
	body   []byte
}

func newLayer() *layer { return &layer{entries: map[string]entry{}} }

func (l *layer) add(name string, mode int64, typeflag byte, e entry) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return
	}
	if dir := path.Dir(name); dir != "." {
		if _, ok := l.entries[dir]; !ok {
			l.dir(dir, 0o755)
		}
	}
	e.header.Name, e.header.Mode, e.header.Typeflag = name, mode, typeflag
	if typeflag == tar.TypeDir {
		e.header.Name += "/"
	}
	l.entries[name] = e
}

func (l *layer) dir(name string, mode int64) { l.add(name, mode, tar.TypeDir, entry{}) }
func (l *layer) link(name, target string) {
	l.add(name, 0o777, tar.TypeSymlink, entry{header: tar.Header{Linkname: target}})
}
func (l *layer) text(name, content string) { l.bytes(name, 0o644, []byte(content)) }
func (l *layer) bytes(n string, m int64, b []byte) {
	l.add(n, m, tar.TypeReg, entry{body: b, header: tar.Header{Size: int64(len(b))}})
}

// file adds the machine's file source; links are followed.
func (l *layer) file(name string, mode int64, source string) {
	info, err := os.Stat(source)
	if err != nil {
		l.err = err
		return
	}
	l.add(name, mode, tar.TypeReg, entry{source: source, header: tar.Header{Size: info.Size()}})
}

// tree adds the machine's folder source with all that is in it, links as links.
func (l *layer) tree(name, source string) {
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		inside := path.Join(name, filepath.ToSlash(rel))
		switch {
		case d.IsDir():
			l.dir(inside, int64(info.Mode().Perm()))
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			l.link(inside, target)
		default:
			l.file(inside, int64(info.Mode().Perm()), p)
		}
		return nil
	})
	if err != nil {
		l.err = err
	}
}

// program adds a dynamically linked program of this machine with the shared
// libraries it needs, at their own paths.
func (l *layer) program(source string) {
	l.file(source, 0o755, source)
	out, err := exec.Command("ldd", source).CombinedOutput()
	if err != nil {
		if bytes.Contains(out, []byte("not a dynamic executable")) {
			return
		}
		l.err = fmt.Errorf("list the libraries of %s: %w: %s", source, err, out)
		return
	}
	for field := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(field, "/") {
			continue
		}
		// Debian's /lib is a link to /usr/lib.
		dir, err := filepath.EvalSymlinks(filepath.Dir(field))
		if err != nil {
			l.err = err
			return
		}
		l.file(path.Join(dir, path.Base(field)), 0o755, field)
	}
}

// build makes the layer, compressed, in a file below dir: layers of hundreds of
// megabytes are not worth the memory.
func (l *layer) build(dir string, mediaType types.MediaType) (_ v1.Layer, err error) {
	if l.err != nil {
		return nil, l.err
	}
	f, err := os.CreateTemp(dir, "layer-*.tar.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	zip := gzip.NewWriter(f)
	w := tar.NewWriter(zip)
	names := make([]string, 0, len(l.entries))
	for name := range l.entries {
		names = append(names, name)
	}
	slices.Sort(names) // a directory before what is in it
	for _, name := range names {
		e := l.entries[name]
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, fmt.Errorf("add %s: %w", name, err)
		}
		if err := e.copyTo(w); err != nil {
			return nil, fmt.Errorf("add %s: %w", name, err)
		}
	}
	for _, c := range []io.Closer{w, zip} {
		if err := c.Close(); err != nil {
			return nil, err
		}
	}
	return tarball.LayerFromFile(f.Name(), tarball.WithMediaType(mediaType))
}

func (e entry) copyTo(w io.Writer) error {
	if e.source == "" {
		_, err := w.Write(e.body)
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
