package operation

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	continuity "github.com/containerd/continuity/fs"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/go-archive"
	digest "github.com/opencontainers/go-digest"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// unpack unpacks the archive source to the folder to of the file system dest,
// as ADD does, and reports whether it is one.
func unpack(from, source, dest, to string, owner *fscopy.User) (bool, error) {
	name, err := continuity.RootPath(from, source)
	if err != nil {
		return false, err
	}
	if !isArchive(name) {
		return false, nil
	}
	folder, err := continuity.RootPath(dest, to)
	if err != nil {
		return false, err
	}
	if _, err := fscopy.MkdirAll(folder, 0o755, chowner(owner), nil); err != nil {
		return false, err
	}
	file, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	content, err := decompressed(file)
	if err != nil {
		return false, err
	}
	defer content.Close()
	options := &archive.TarOptions{BestEffortXattrs: true}
	if owner != nil {
		options.ChownOpts = &archive.ChownOpts{UID: owner.UID, GID: owner.GID}
	}
	return true, inside(folder, func() error { return archive.Untar(content, "/", options) })
}

// inside runs do with folder as the root, so that no link of an archive leads
// out of it. The process serves this operation alone, and has one at a time.
func inside(folder string, do func() error) (err error) {
	if folder == root {
		return do()
	}
	back, err := os.Open(root)
	if err != nil {
		return err
	}
	defer back.Close()
	if err := errors.Join(unix.Chroot(folder), os.Chdir("/")); err != nil {
		return fmt.Errorf("make %s the root: %w", folder, err)
	}
	defer func() {
		err = errors.Join(err, back.Chdir(), unix.Chroot("."))
	}()
	return do()
}

// isArchive reports whether a file is a tar archive, compressed or not.
func isArchive(name string) bool {
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	file, err := os.Open(name)
	if err != nil {
		return false
	}
	defer file.Close()
	content, err := decompressed(file)
	if err != nil {
		return false
	}
	defer content.Close()
	_, err = tar.NewReader(content).Next()
	return err == nil
}

// decompressed reads what Docker unpacks: gzip, bzip2, xz, zstd or nothing of
// the kind. Docker runs the program xz, which kaniko's image lacks.
func decompressed(in io.Reader) (io.ReadCloser, error) {
	start := bufio.NewReaderSize(in, 64<<10)
	magic, err := start.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b\x08")):
		return gzip.NewReader(start)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(start)), nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		reader, err := xz.NewReader(start)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(reader), nil
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		reader, err := zstd.NewReader(start)
		if err != nil {
			return nil, err
		}
		return reader.IOReadCloser(), nil
	}
	return io.NopCloser(start), nil
}

// connectFor bounds the time until a host that ADD downloads from answers.
const connectFor = 30 * time.Second

// The stage may have no certificates, but kaniko's image has, as BuildKit's
// daemon has its own. The variable is one of crypto/x509's.
const (
	certVariable = "SSL_CERT_DIR"
	certFolders  = "/kaniko/ssl/certs:/etc/ssl/certs:/etc/pki/tls/certs"
)

// download puts the file into a new folder in dir, with the mode and the time
// that BuildKit gives it.
func (u *URL) download(ctx context.Context, dir string) (folder string, err error) {
	if folder, err = os.MkdirTemp(dir, "url-"); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(folder)
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.URL, nil)
	if err != nil {
		return "", err
	}
	if _, set := os.LookupEnv(certVariable); !set {
		if err := os.Setenv(certVariable, certFolders); err != nil {
			return "", err
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = connectFor
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return "", fmt.Errorf("GET %s: %s", u.URL, response.Status)
	}
	name := filepath.Join(folder, filepath.Base(u.Name))
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	sum := digest.Canonical.Digester()
	if u.Checksum != "" {
		sum = digest.Digest(u.Checksum).Algorithm().Digester()
	}
	_, err = io.Copy(io.MultiWriter(file, sum.Hash()), response.Body)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("GET %s: %w", u.URL, err)
	}
	if got := sum.Digest(); u.Checksum != "" && got.String() != u.Checksum {
		return "", fmt.Errorf("GET %s: its checksum is %s, not %s", u.URL, short(got.Encoded()), short(strings.TrimPrefix(u.Checksum, got.Algorithm().String()+":")))
	}
	if modified, err := http.ParseTime(response.Header.Get("Last-Modified")); err == nil {
		return folder, os.Chtimes(name, modified, modified)
	}
	return folder, nil
}

// short is the start of a checksum.
func short(sum string) string {
	if _, err := hex.DecodeString(sum); err == nil && len(sum) > 12 {
		return sum[:12] + "…"
	}
	return sum
}
