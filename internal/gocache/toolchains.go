package gocache

import (
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
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/step"
)

// GoRoot is where the golang images have Go, and its place is part of what a
// build without -trimpath yields.
const GoRoot = "/usr/local/go"

// Toolchains is a folder of what base images have at [GoRoot], each in a folder
// named by the image's digest:
//
//	toolchain.json   what is known of it ([Toolchain])
//	go/              the tree, where it is kept
//	files            the tree's manifest
//	boot             the boot of the node that wrote it, until it is read from
//	                 disk
//	base/            the same image without the tree, as an OCI layout of
//	                 uncompressed layers: what is left to unpack in a build
//
// Builds read it where they cannot write.
type Toolchains string

// Toolchain is what a base image has at [GoRoot].
type Toolchain struct {
	// Go says whether anything is there at all.
	Go bool `json:"go"`
	// Problem says why it cannot be kept; "" if nothing stands against it.
	Problem string `json:"problem,omitempty"`
	// Env is the content of its go.env.
	Env string `json:"env,omitempty"`
	// Kept says whether the folder has it.
	Kept bool `json:"kept"`
}

// Of a toolchain's folder.
const (
	factsFile    = "toolchain.json"
	manifestFile = "files"
	bootFile     = "boot"
	treeFolder   = "go"
	baseFolder   = "base"
)

// checkEvery is how often a toolchain's content is read as a whole. In between,
// sizes, modes and times tell, of all that builds read. What was written before
// the node's last boot, or on another node, is read once: nothing waits for the
// disk to have it, as that has the data of all others to write as well.
const checkEvery = 24 * time.Hour

// Tree is the folder of a toolchain that is kept.
func (t Toolchains) Tree(digest v1.Hash) string {
	return filepath.Join(string(t), digest.String(), treeFolder)
}

// Base is the folder of the image without its toolchain.
func (t Toolchains) Base(digest v1.Hash) string {
	return filepath.Join(string(t), digest.String(), baseFolder)
}

// Look finds what is known of the image digest, and checks the tree if that is
// kept. The error is [fs.ErrNotExist] where nothing is known.
func (t Toolchains) Look(ctx context.Context, digest v1.Hash) (*Toolchain, error) {
	return t.check(ctx, digest, false)
}

// Use counts as a use of what Look has found.
func (t Toolchains) Use(digest v1.Hash) error { return entries(t).touch(digest.String()) }

// check is Look; whole makes it read the tree's content in any case.
func (t Toolchains) check(ctx context.Context, digest v1.Hash, whole bool) (*Toolchain, error) {
	dir := filepath.Join(string(t), digest.String())
	content, err := os.ReadFile(filepath.Join(dir, factsFile))
	if err != nil {
		return nil, err
	}
	var found Toolchain
	if err := json.Unmarshal(content, &found); err != nil {
		return nil, damaged(err)
	}
	if found.Kept {
		if err := checkTree(ctx, dir, whole); err != nil {
			return nil, damaged(err)
		}
	}
	return &found, nil
}

// Remember stores what Inspect has found, where nothing is known or what is there
// is damaged. That stays, as a build may use it: it is only not kept any more.
func (t Toolchains) Remember(ctx context.Context, digest v1.Hash, found *Toolchain) (err error) {
	dir := filepath.Join(string(t), digest.String())
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		if _, err := t.check(ctx, digest, false); err == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return writeFacts(dir, found)
	}
	temporary, err := entries(t).stage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	if err := writeFacts(temporary, found); err != nil {
		return err
	}
	return entries(t).commit(temporary, digest.String(), func() bool {
		info, err := os.Lstat(dir)
		return err == nil && info.IsDir() // another run's by now
	})
}

// Keep stores the toolchain of img, read from its layers, in the place of what
// is damaged, or known without it. Where there is none, or one that cannot be
// kept, it stores that.
func (t Toolchains) Keep(ctx context.Context, img v1.Image) (_ *Toolchain, err error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if !goOnPath(config) {
		// Most likely there is none: then nothing is written in vain.
		found, err := Inspect(ctx, img)
		if err != nil {
			return nil, err
		}
		if !found.Go {
			return found, t.Remember(ctx, digest, found)
		}
	}
	spread(string(t))
	temporary, err := entries(t).stage()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	found, err := extract(ctx, img, temporary)
	if err != nil {
		return nil, err
	}
	if !found.Kept {
		return found, t.Remember(ctx, digest, found)
	}
	if err := writeFacts(temporary, found); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(temporary, bootFile), []byte(boot()), 0o644); err != nil {
		return nil, err
	}
	return found, entries(t).commit(temporary, digest.String(), func() bool {
		there, err := t.check(ctx, digest, false)
		return err == nil && there.Kept
	})
}

// topDir is FS_TOPDIR_FL of linux/fs.h: chattr(1)'s T.
const topDir = 0x20000

// spread has ext4 begin each folder in dir at another place of the disk. It puts
// files where their folder is, and takes no inode there that was deleted within
// the last minutes, but looks at each again for each file: where a container with
// a Go in it has just been removed, one of Go's 17,000 files took a millisecond.
// Other file systems know no such hint.
func spread(dir string) {
	folder, err := os.Open(dir)
	if err != nil {
		return // whoever writes there will say so
	}
	defer folder.Close()
	flags, err := unix.IoctlGetUint32(int(folder.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(int(folder.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

func goOnPath(config *v1.ConfigFile) bool {
	for _, variable := range config.Config.Env {
		if name, value, _ := strings.Cut(variable, "="); name == "PATH" && strings.Contains(value, GoRoot) {
			return true
		}
	}
	return false
}

func writeFacts(dir string, found *Toolchain) error {
	content, err := json.Marshal(found)
	if err != nil {
		return err
	}
	return step.WriteFile(filepath.Join(dir, factsFile), content, 0o644)
}

// bootID has another content each time that the node boots: random(4).
const bootID = "/proc/sys/kernel/random/boot_id"

// boot is this one; "" where it is not known.
func boot() string {
	content, err := os.ReadFile(bootID)
	if err != nil {
		return ""
	}
	return string(content)
}

// writtenElsewhere says whether a toolchain may have been lost in part since it
// was written: the node may have crashed with some of it in memory alone.
func writtenElsewhere(dir string) bool {
	written, err := os.ReadFile(filepath.Join(dir, bootFile))
	return err == nil && (len(written) == 0 || string(written) != boot())
}

// writeManifest lists everything of a tree, a line each: its attributes, its
// content's SHA-256 or a link's target, and its path. What sums does not have by
// its path is read.
func writeManifest(dir string, sums map[string]string) error {
	file, err := os.Create(filepath.Join(dir, manifestFile))
	if err != nil {
		return err
	}
	lines := bufio.NewWriter(file)
	root := filepath.Join(dir, treeFolder)
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := lstatAt(unix.AT_FDCWD, path, &stat); err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		content, known := sums[name]
		if !known || kind(&stat) != unix.S_IFREG {
			if content, err = contentOf(path, &stat); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(lines, "%s\t%s\t%s\n", appendAttributes(nil, &stat), content, name)
		return err
	})
	return errors.Join(err, lines.Flush(), file.Close())
}

// lstatAt is os.Lstat for thousands of files: relative to a directory, and
// without a FileInfo.
func lstatAt(dir int, name string, stat *unix.Stat_t) error {
	for {
		switch err := unix.Fstatat(dir, name, stat, unix.AT_SYMLINK_NOFOLLOW); err {
		case nil:
			return nil
		case unix.EINTR: // of network file systems
		default:
			return &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
	}
}

// appendAttributes appends what tells a changed file at a glance: its
// [fs.FileMode], its size in bytes, and the nanosecond of its last modification.
// A directory has no size; its time tells that entries came or went. Of a link
// its target tells.
func appendAttributes(text []byte, stat *unix.Stat_t) []byte {
	mode, size := fs.FileMode(stat.Mode).Perm(), stat.Size
	switch kind(stat) {
	case unix.S_IFLNK:
		return append(text, "link"...)
	case unix.S_IFDIR:
		mode, size = mode|fs.ModeDir, 0
	case unix.S_IFREG:
	default:
		mode |= fs.ModeIrregular
	}
	for _, special := range []struct {
		here uint32
		mode fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if stat.Mode&special.here != 0 {
			mode |= special.mode
		}
	}
	text = strconv.AppendUint(text, uint64(mode), 8)
	text = strconv.AppendInt(append(text, ' '), size, 10)
	return strconv.AppendInt(append(text, ' '), stat.Mtim.Nano(), 10)
}

// kind is a file's type: unix.S_IFREG, S_IFDIR, S_IFLNK and so on.
func kind(stat *unix.Stat_t) uint32 { return stat.Mode & unix.S_IFMT }

func contentOf(path string, stat *unix.Stat_t) (string, error) {
	switch kind(stat) {
	case unix.S_IFLNK:
		return os.Readlink(path)
	case unix.S_IFREG:
	default:
		return "", nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// checkTree compares a tree with its manifest, and the image without it; their
// content too if that is to be read whole, or was not for long.
func checkTree(ctx context.Context, dir string, whole bool) error {
	manifest := filepath.Join(dir, manifestFile)
	content, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	info, err := os.Stat(manifest)
	if err != nil {
		return err
	}
	elsewhere := writtenElsewhere(dir)
	whole = whole || elsewhere || time.Since(info.ModTime()) > checkEvery
	lines := bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n"))
	tree, err := os.OpenFile(filepath.Join(dir, treeFolder), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer tree.Close()
	const parts = 4
	checks, ctx := errgroup.WithContext(ctx)
	for part := range parts {
		checks.Go(func() error {
			for i := part; i < len(lines); i += parts {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := checkLine(tree, lines[i], whole); err != nil {
					return err
				}
			}
			return nil
		})
	}
	checks.Go(func() error { return checkBase(ctx, filepath.Join(dir, baseFolder), whole) })
	if err := checks.Wait(); err != nil {
		return err
	}
	if elsewhere {
		if err := os.Remove(filepath.Join(dir, bootFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if whole {
		now := time.Now()
		return os.Chtimes(manifest, now, now)
	}
	return nil
}

// checkBase compares the image without the tree with its digests, or their
// sizes.
func checkBase(ctx context.Context, dir string, whole bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	check := checkSize
	if whole {
		check = func(root *os.Root, blob v1.Descriptor) error { return checkBlob(ctx, root, blob) }
	}
	_, _, err = checkLayout(root, check)
	return err
}

// forTests says of half of Go's files that only Go's own tests read them. A look
// before each build is too long for those.
func forTests(name []byte) bool {
	return bytes.HasPrefix(name, []byte("/test/")) || bytes.Contains(name, []byte("/testdata/"))
}

// checkLine is done for thousands of files before each build.
func checkLine(tree *os.File, line []byte, whole bool) error {
	was, rest, _ := bytes.Cut(line, []byte("\t"))
	wanted, name, complete := bytes.Cut(rest, []byte("\t"))
	if !complete {
		return errors.New("its list of files is cut off")
	}
	if !whole && forTests(name) {
		return nil
	}
	var stat unix.Stat_t
	if err := lstatAt(int(tree.Fd()), "."+string(name), &stat); err != nil {
		return err
	}
	same := bytes.Equal(appendAttributes(make([]byte, 0, 64), &stat), was)
	if same && !whole && kind(&stat) != unix.S_IFLNK {
		return nil
	}
	path := tree.Name() + string(name)
	if same {
		content, err := contentOf(path, &stat)
		if err != nil {
			return err
		}
		same = content == string(wanted)
	}
	if !same {
		return fmt.Errorf("%s was changed", path)
	}
	return nil
}
