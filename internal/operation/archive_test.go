package operation

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// archived is a tar file of entries as tree has them.
func archived(t *testing.T, entries ...string) []byte {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for _, entry := range entries {
		name, target, link := strings.Cut(entry, " -> ")
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(name)), Uid: os.Getuid(), Gid: os.Getgid()}
		switch {
		case link:
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, target, 0
		case strings.HasSuffix(name, "/"):
			header.Typeflag, header.Mode, header.Size = tar.TypeDir, 0o755, 0
		}
		must(t, archive.WriteHeader(header))
		if header.Size > 0 {
			_, err := archive.Write([]byte(name))
			must(t, err)
		}
	}
	must(t, archive.Close())
	return content.Bytes()
}

func compressed(t *testing.T, content []byte, writer func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := writer(&out)
	must(t, err)
	_, err = w.Write(content)
	must(t, errors.Join(err, w.Close()))
	return out.Bytes()
}

func archives(t *testing.T) map[string][]byte {
	t.Helper()
	plain := archived(t, "d/", "d/a")
	zip := func(content []byte) []byte {
		return compressed(t, content, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	}
	return map[string][]byte{
		"tar": plain, "gzip": zip(plain),
		"xz":   compressed(t, plain, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
		"zstd": compressed(t, plain, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),

		"text": []byte("text"), "empty": nil, "gzip of text": zip([]byte("text")), "gzip of nothing": zip(nil),
		"half a gzip": zip(plain)[:12], "a start of xz": []byte("\xfd7zXZ\x00"), "a start of zstd": []byte("\x28\xb5\x2f\xfd"), "a start of bzip2": []byte("BZh91AY"),
	}
}

func TestIsArchive(t *testing.T) {
	t.Parallel()
	dir := tree(t, "folder/", "link -> tar")
	is := []string{"gzip", "tar", "xz", "zstd"}
	for name, content := range archives(t) {
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
		if got := isArchive(filepath.Join(dir, name)); got != slices.Contains(is, name) {
			t.Errorf("%s: %t", name, got)
		}
	}
	for _, name := range []string{"folder", "link", "absent"} {
		if isArchive(filepath.Join(dir, name)) {
			t.Errorf("%s is an archive", name)
		}
	}
}

func TestDecompressed(t *testing.T) {
	t.Parallel()
	all := archives(t)
	for _, name := range []string{"gzip", "xz", "zstd", "tar"} {
		in, err := decompressed(bytes.NewReader(all[name]))
		must(t, err)
		content, err := io.ReadAll(in)
		if err := errors.Join(err, in.Close()); err != nil || !bytes.Equal(content, all["tar"]) {
			t.Errorf("%s: %d bytes, %v", name, len(content), err)
		}
	}
}

// ADD of a gzip that is no archive leaves the file as it is.
func TestAddOfWhatIsNoArchive(t *testing.T) {
	t.Parallel()
	from, dest := t.TempDir(), t.TempDir()
	content := archives(t)["gzip of text"]
	must(t, os.WriteFile(from+"/x.gz", content, 0o644))
	a := plain("/x.gz", "/d/").with(func(a *CopyAction) { a.Unpack = true })
	must(t, a.copy(t.Context(), from, dest, nil, nil, false))
	if got, err := os.ReadFile(dest + "/d/x.gz"); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
