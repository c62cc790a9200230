package oracle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/archive"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	docker "github.com/moby/go-archive"
	"golang.org/x/sys/unix"
)

// readers unpack a layer to a folder as those who run images do.
var readers = []struct {
	name   string
	unpack func(ctx context.Context, root string, layer io.Reader) error
}{
	{"containerd", func(ctx context.Context, root string, layer io.Reader) error {
		_, err := archive.Apply(ctx, root, layer)
		return err
	}},
	{"Docker", func(_ context.Context, root string, layer io.Reader) error {
		// It relies on being in the root that it unpacks to.
		return inRoot(root, func() error {
			_, err := docker.ApplyUncompressedLayer("/", layer, &docker.TarOptions{})
			return err
		})
	}},
}

// inRoot calls a function with a folder as the root file system, which it is for
// the function's own thread alone.
func inRoot(root string, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chroot(root)
		}
		if err == nil {
			err = unix.Chdir("/")
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// readBack unpacks an image with each of the readers and returns how what they
// make differs from what is compared with BuildKit's image.
func readBack(ctx context.Context, image v1.Image) ([]string, error) {
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	t, err := flatten(image, 0)
	if err != nil {
		return nil, nil //nolint:nilerr // compare says it
	}
	var problems []string
	for _, reader := range readers {
		root, err := os.MkdirTemp("", "slipway-oracle-read-")
		if err != nil {
			return nil, err
		}
		unpack := func() error {
			for n, layer := range layers {
				content, err := layer.Uncompressed()
				if err != nil {
					return err
				}
				if err := errors.Join(reader.unpack(ctx, root, content), content.Close()); err != nil {
					return fmt.Errorf("layer %d: %w", n+1, err)
				}
			}
			return nil
		}
		var found []string
		if err := unpack(); err != nil {
			found = []string{err.Error()}
		} else if found, err = t.compareTo(root); err != nil {
			return nil, errors.Join(err, os.RemoveAll(root))
		}
		for _, problem := range found {
			problems = append(problems, fmt.Sprintf("unpacked by %s: %s", reader.name, problem))
		}
		if err := os.RemoveAll(root); err != nil {
			return nil, err
		}
	}
	return problems, nil
}

// compareTo returns how the files below root differ from those of t.
func (t *tree) compareTo(root string) ([]string, error) {
	var problems []string
	seen := map[string]bool{"": true}
	files, numbers := map[uint64]*inode{}, map[*inode]uint64{}
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || at == root {
			return err
		}
		name := strings.TrimPrefix(at, root+"/")
		seen[name] = true
		want, ok := t.files[name]
		if !ok {
			problems = append(problems, fmt.Sprintf("/%s is there", name))
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		got, err := inodeOf(at, info)
		if err != nil {
			return err
		}
		number := info.Sys().(*syscall.Stat_t).Ino
		if other, ok := files[number]; ok && other != want {
			problems = append(problems, fmt.Sprintf("/%s is a name of another file too", name))
		}
		if other, ok := numbers[want]; ok && other != number {
			problems = append(problems, fmt.Sprintf("/%s is no longer a name of the same file as others", name))
		}
		files[number], numbers[want] = want, number
		if got.kind == tar.TypeSymlink {
			got.mode = want.mode // it means nothing
		}
		if got.kind != want.kind || got.mode != want.mode || got.uid != want.uid || got.gid != want.gid || got.target != want.target || got.sum != want.sum {
			problems = append(problems, fmt.Sprintf("/%s is %s, and not %s", name, got, want))
		}
		return nil
	})
	for name := range t.files {
		if !seen[name] {
			problems = append(problems, fmt.Sprintf("/%s is not there", name))
		}
	}
	slices.Sort(problems)
	return problems, err
}

// inodeOf is a file of this machine, without its attributes.
func inodeOf(at string, info fs.FileInfo) (*inode, error) {
	header, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return nil, err
	}
	made := &inode{kind: header.Typeflag, mode: header.Mode & 0o7777, uid: header.Uid, gid: header.Gid}
	switch made.kind {
	case tar.TypeSymlink:
		made.target, err = os.Readlink(at)
	case tar.TypeReg:
		var file *os.File
		if file, err = os.Open(at); err != nil {
			return nil, err
		}
		defer file.Close()
		sum := sha256.New()
		made.size, err = io.Copy(sum, file)
		made.sum = hex.EncodeToString(sum.Sum(nil))
	}
	return made, err
}
