package gocache_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// entry is one of a layer: a folder where the name ends in a slash, a link
// where it has a target, otherwise a file.
type entry struct {
	name, content, link string
	kind                byte
	mode                int64
	uid                 int
	xattr               bool
}

var installed = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func imageOf(t *testing.T, config v1.Config, layers ...[]entry) v1.Image {
	t.Helper()
	img, err := mutate.Config(empty.Image, config)
	if err != nil {
		t.Fatal(err)
	}
	for _, entries := range layers {
		var content bytes.Buffer
		archive := tar.NewWriter(&content)
		for _, e := range entries {
			header := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Uid: e.uid, Size: int64(len(e.content)), ModTime: installed}
			if e.kind == 0 {
				header.Typeflag = tar.TypeReg
				if strings.HasSuffix(e.name, "/") {
					header.Typeflag = tar.TypeDir
				}
			}
			if e.mode == 0 {
				header.Mode = 0o644
				if header.Typeflag == tar.TypeDir {
					header.Mode = 0o755
				}
			}
			if e.xattr {
				header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "x"}
			}
			if err := archive.WriteHeader(header); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(archive, e.content); err != nil {
				t.Fatal(err)
			}
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// golang is an image as the real ones are, with what they might have too.
func golang(t *testing.T, more ...[]entry) v1.Image {
	t.Helper()
	return imageOf(t, v1.Config{Env: []string{"PATH=/usr/local/go/bin:/bin"}, WorkingDir: "/go"}, append([][]entry{
		{{name: "etc/"}, {name: "etc/passwd", content: "root"}, {name: "usr/"}, {name: "usr/local/"}, {name: "usr/local/bin/"}},
		{
			{name: "usr/local/go/"},
			{name: "usr/local/go/go.env", content: "GOPROXY=one\n"},
			{name: "usr/local/go/VERSION", content: "go1"},
			{name: "usr/local/go/bin/"}, {name: "usr/local/go/bin/go", content: "program", mode: 0o755},
			{name: "usr/local/go/src/"}, {name: "usr/local/go/src/a.go", content: "package a"},
			{name: "usr/local/go/src/b.go", link: "a.go", kind: tar.TypeSymlink},
			{name: "usr/local/go/src/c.go", link: "usr/local/go/src/a.go", kind: tar.TypeLink},
			{name: "usr/local/go/old/"}, {name: "usr/local/go/old/file"},
		},
		{{name: "go/", mode: 0o1777}},
	}, more...)...)
}

func TestToolchainIsKept(t *testing.T) {
	t.Parallel()
	toolchains := gocache.Toolchains(t.TempDir())
	img := golang(t, []entry{
		{name: "usr/local/go/.wh.old"},
		{name: "./usr/local/go/VERSION", content: "go2"},
		{name: "etc/.wh.passwd"},
	})
	digest := digestOf(t, img)
	if _, err := toolchains.Look(t.Context(), digest); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before it is there: %v", err)
	}
	for range 2 { // the second as if another run had been faster
		found, err := toolchains.Keep(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		if want := (gocache.Toolchain{Go: true, Env: "GOPROXY=one\n", Kept: true}); *found != want {
			t.Errorf("got %+v, want %+v", *found, want)
		}
	}
	if found, err := toolchains.Look(t.Context(), digest); err != nil || !found.Kept {
		t.Errorf("got %+v, %v", found, err)
	}
	tree := toolchains.Tree(digest)
	for file, want := range map[string]string{"VERSION": "go2", "bin/go": "program", "src/a.go": "package a", "src/b.go": "package a", "src/c.go": "package a"} {
		if got, err := os.ReadFile(filepath.Join(tree, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(tree, "old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a later layer removed is there: %v", err)
	}
	for file, mode := range map[string]fs.FileMode{"bin/go": 0o755, "src/a.go": 0o644, "src": fs.ModeDir | 0o755} {
		if info, err := os.Stat(filepath.Join(tree, file)); err != nil || info.Mode() != mode || !info.ModTime().Equal(installed) {
			t.Errorf("%s: %v", file, info)
		}
	}

	index, err := layout.ImageIndexFromPath(toolchains.Base(digest))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	rest, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if config, err := rest.ConfigFile(); err != nil || config.Config.WorkingDir != "/go" {
		t.Errorf("the base's settings are lost: %v", err)
	}
	want := []string{"etc/", "etc/passwd", "usr/", "usr/local/", "usr/local/bin/", "go/", "etc/.wh.passwd"}
	if got := namesIn(t, rest); !slices.Equal(got, want) {
		t.Errorf("the base without its toolchain has %q, want %q", got, want)
	}
}

func namesIn(t *testing.T, img v1.Image) (names []string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for archive := tar.NewReader(content); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			names = append(names, header.Name)
		}
	}
	return names
}

func TestToolchainsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		img  v1.Image
		want gocache.Toolchain
	}{
		"none":                     {imageOf(t, v1.Config{}, []entry{{name: "usr/local/"}, {name: "usr/local/golang"}}), gocache.Toolchain{}},
		"removed":                  {golang(t, []entry{{name: "usr/local/.wh.go"}}), gocache.Toolchain{}},
		"with all else":            {golang(t, []entry{{name: ".wh.usr"}}), gocache.Toolchain{}},
		"a folder replaced":        {golang(t, []entry{{name: "usr/local/go/.wh..wh..opq"}}), unfit("a layer of its base image replaces /usr/local/go as a whole")},
		"a link in its place":      {golang(t, []entry{{name: "usr/local/go", link: "../lib/go", kind: tar.TypeSymlink}}), unfit("/usr/local/go is not a folder")},
		"a link above it":          {golang(t, []entry{{name: "usr/local", link: "/opt", kind: tar.TypeSymlink}}), unfit("/usr/local is not a folder that belongs to root with mode 755")},
		"another mode above":       {golang(t, []entry{{name: "usr/local/", mode: 0o2775}}), unfit("/usr/local is not a folder that belongs to root with mode 755")},
		"another's":                {golang(t, []entry{{name: "usr/local/go/x", uid: 7}}), unfit("/usr/local/go/x belongs to user 7 and group 0")},
		"a hard link out":          {golang(t, []entry{{name: "usr/local/go/x", link: "etc/passwd", kind: tar.TypeLink}}), unfit("/usr/local/go/x is a hard link to /etc/passwd")},
		"a hard link in":           {golang(t, []entry{{name: "bin/go", link: "usr/local/go/bin/go", kind: tar.TypeLink}}), unfit("/bin/go is a hard link to /usr/local/go/bin/go")},
		"capabilities":             {golang(t, []entry{{name: "usr/local/go/x", xattr: true}}), unfit("/usr/local/go/x has extended attributes")},
		"without its own settings": {golang(t, []entry{{name: "usr/local/go/.wh.go.env"}}), gocache.Toolchain{Go: true, Kept: true}},
		"a device":                 {golang(t, []entry{{name: "usr/local/go/null", kind: tar.TypeChar}}), unfit("/usr/local/go/null is neither a file, a folder nor a link")},
		"no program":               {golang(t, []entry{{name: "usr/local/go/.wh.bin"}}), unfit("it has no bin/go")},
		"its working folder":       {mustConfig(t, golang(t), v1.Config{WorkingDir: "/usr/local/go/src"}), unfit("the base image works in /usr/local/go/src")},
		"another GOROOT":           {mustConfig(t, golang(t), v1.Config{Env: []string{"GOROOT=/opt/go"}}), unfit("the base image sets another GOROOT")},
		"triggers":                 {mustConfig(t, golang(t), v1.Config{OnBuild: []string{"RUN true"}}), unfit("the base image has ONBUILD instructions")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			toolchains := gocache.Toolchains(t.TempDir())
			found, err := toolchains.Keep(t.Context(), tc.img)
			if err != nil {
				t.Fatal(err)
			}
			// What is decided from it is the same, wanted or not.
			looked, err := gocache.Inspect(t.Context(), tc.img)
			if err != nil || looked.Go != found.Go || looked.Problem != found.Problem || looked.Env != found.Env && found.Problem == "" {
				t.Errorf("looked at, it is %+v (%v), kept %+v", looked, err, found)
			}
			if tc.want.Problem != "" {
				found.Env = ""
			}
			if *found != tc.want {
				t.Errorf("got %+v, want %+v", *found, tc.want)
			}
			digest := digestOf(t, tc.img)
			if _, err := toolchains.Look(t.Context(), digest); err != nil {
				t.Errorf("it was not remembered: %v", err)
			}
			onlyEntries(t, gocache.BaseImages(toolchains), digest.String())
		})
	}
}

func unfit(problem string) gocache.Toolchain { return gocache.Toolchain{Go: true, Problem: problem} }

func mustConfig(t *testing.T, img v1.Image, config v1.Config) v1.Image {
	t.Helper()
	img, err := mutate.Config(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digestOf(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// keptGolang is a folder that has the toolchain of an image.
func keptGolang(t *testing.T) (gocache.Toolchains, v1.Hash) {
	t.Helper()
	toolchains := gocache.Toolchains(t.TempDir())
	img := golang(t)
	digest := digestOf(t, img)
	if _, err := toolchains.Keep(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	return toolchains, digest
}

func TestDamagedToolchainsAreFound(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, entry string){
		"a file added":   func(t *testing.T, entry string) { writeFile(t, filepath.Join(entry, "go/src/evil.go"), "x") },
		"a file removed": func(t *testing.T, entry string) { remove(t, filepath.Join(entry, "go/src/a.go")) },
		"a file changed": func(t *testing.T, entry string) { writeFile(t, filepath.Join(entry, "go/src/a.go"), "package x") },
		"a link changed": func(t *testing.T, entry string) { relink(t, filepath.Join(entry, "go/src/b.go"), "/etc/passwd") },
		"a link to another tree": func(t *testing.T, entry string) {
			if err := os.Rename(filepath.Join(entry, "go"), filepath.Join(entry, "other")); err != nil {
				t.Fatal(err)
			}
			relink(t, filepath.Join(entry, "go"), "other")
		},
		"no manifest":    func(t *testing.T, entry string) { remove(t, filepath.Join(entry, "files")) },
		"a manifest cut": func(t *testing.T, entry string) { truncate(t, filepath.Join(entry, "files")) },
		"facts cut":      func(t *testing.T, entry string) { truncate(t, filepath.Join(entry, "toolchain.json")) },
		"a mode changed": func(t *testing.T, entry string) { chmod(t, filepath.Join(entry, "go/bin/go"), 0o777) },
		"a layer cut":    func(t *testing.T, entry string) { truncate(t, largestBlob(t, entry)) },
		"no layer":       func(t *testing.T, entry string) { remove(t, largestBlob(t, entry)) },
		"a layer changed, a day on": func(t *testing.T, entry string) {
			overwrite(t, largestBlob(t, entry))
			setTime(t, filepath.Join(entry, "files"), time.Now().Add(-25*time.Hour))
		},
		"unseen, a day on": func(t *testing.T, entry string) {
			writeFile(t, filepath.Join(entry, "go/src/a.go"), "package x")
			setTime(t, filepath.Join(entry, "go/src/a.go"), installed)
			setTime(t, filepath.Join(entry, "files"), time.Now().Add(-25*time.Hour))
		},
		"unseen, after a crash": func(t *testing.T, entry string) {
			writeFile(t, filepath.Join(entry, "go/src/a.go"), "package x")
			setTime(t, filepath.Join(entry, "go/src/a.go"), installed)
			writeFile(t, filepath.Join(entry, "boot"), "the boot before")
		},
		"unseen, after a crash that took the boot": func(t *testing.T, entry string) {
			writeFile(t, filepath.Join(entry, "go/src/a.go"), "package x")
			setTime(t, filepath.Join(entry, "go/src/a.go"), installed)
			truncate(t, filepath.Join(entry, "boot"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			toolchains, digest := keptGolang(t)
			damage(t, filepath.Join(string(toolchains), digest.String()))
			if _, err := toolchains.Look(t.Context(), digest); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
			if found, err := toolchains.Keep(t.Context(), golang(t)); err != nil || !found.Kept {
				t.Errorf("kept anew: %+v, %v", found, err)
			}
			onlyKept(t, toolchains, digest)
		})
	}
}

// Each begins at another place of the disk, where that is ext4's to choose.
func TestToolchainsAreSpread(t *testing.T) {
	t.Parallel()
	toolchains, _ := keptGolang(t)
	var system unix.Statfs_t
	if err := unix.Statfs(string(toolchains), &system); err != nil {
		t.Fatal(err)
	}
	if system.Type != unix.EXT4_SUPER_MAGIC {
		return // they are kept all the same, and that is all there is to see
	}
	folder, err := os.Open(string(toolchains))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	const topDir = 0x20000 // lsattr shows it as T
	if flags, err := unix.IoctlGetUint32(int(folder.Fd()), unix.FS_IOC_GETFLAGS); err != nil || flags&topDir == 0 {
		t.Errorf("its flags are %#x, %v", flags, err)
	}
}

// What only Go's own tests read is looked at once a day.
func TestFilesOfGosOwnTests(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"test/x.go", "src/testdata/y.go"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			toolchains := gocache.Toolchains(t.TempDir())
			img := golang(t, []entry{
				{name: "usr/local/go/test/"}, {name: "usr/local/go/test/x.go"},
				{name: "usr/local/go/src/testdata/"}, {name: "usr/local/go/src/testdata/y.go"},
			})
			if _, err := toolchains.Keep(t.Context(), img); err != nil {
				t.Fatal(err)
			}
			digest := digestOf(t, img)
			entry := filepath.Join(string(toolchains), digest.String())
			writeFile(t, filepath.Join(entry, "go", file), "changed")
			if _, err := toolchains.Look(t.Context(), digest); err != nil {
				t.Errorf("before a day is over: %v", err)
			}
			setTime(t, filepath.Join(entry, "files"), time.Now().Add(-25*time.Hour))
			if _, err := toolchains.Look(t.Context(), digest); err == nil {
				t.Error("it is not seen a day on")
			}
		})
	}
}

// What survived the node's crash is read as a whole once.
func TestAToolchainOfAnotherBootIsReadOnce(t *testing.T) {
	t.Parallel()
	toolchains, digest := keptGolang(t)
	entry := filepath.Join(string(toolchains), digest.String())
	writeFile(t, filepath.Join(entry, "boot"), "the boot before")
	if _, err := toolchains.Look(t.Context(), digest); err != nil {
		t.Fatal(err)
	}
	// Of the same size and time: only who reads it sees that.
	writeFile(t, filepath.Join(entry, "go/src/a.go"), "package x")
	setTime(t, filepath.Join(entry, "go/src/a.go"), installed)
	if _, err := toolchains.Look(t.Context(), digest); err != nil {
		t.Errorf("it is read again: %v", err)
	}
}

// largestBlob is the largest of the image without its toolchain: a layer.
func largestBlob(t *testing.T, entry string) string {
	t.Helper()
	var largest string
	var most int64
	blobs, err := filepath.Glob(filepath.Join(entry, "base/blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range blobs {
		info, err := os.Stat(blob)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > most {
			largest, most = blob, info.Size()
		}
	}
	return largest
}

func TestAnInterruptedExtractionLeavesNothing(t *testing.T) {
	t.Parallel()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("no tar")), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(golang(t), layer)
	if err != nil {
		t.Fatal(err)
	}
	toolchains := gocache.Toolchains(t.TempDir())
	if _, err := toolchains.Keep(t.Context(), img); err == nil {
		t.Error("a layer that is no tar was read")
	}
	onlyEntries(t, gocache.BaseImages(toolchains))
}

// Another build's RUN can write to base images of the volume at any time.
func TestABaseImageThatIsChangedAfterItWasCheckedIsNotKept(t *testing.T) {
	t.Parallel()
	img := golang(t)
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digest := digestOf(t, img)
	evil, err := golang(t, []entry{{name: "usr/local/go/bin/go", content: "evil", mode: 0o755}}).Layers()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]struct {
		blob    v1.Hash
		content func() (io.ReadCloser, error)
	}{
		"a layer":              {manifest.Layers[1].Digest, evil[3].Compressed},
		"one that is unpacked": {manifest.Layers[1].Digest, evil[3].Uncompressed},
		"the manifest":         {digest, func() (io.ReadCloser, error) { return manifestOf(img) }},
		"the configuration":    {manifest.Config.Digest, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("{}")), nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bases, toolchains := gocache.BaseImages(t.TempDir()), gocache.Toolchains(t.TempDir())
			if err := bases.Add(t.Context(), img, func(int) {}); err != nil {
				t.Fatal(err)
			}
			if _, err := bases.Check(digest); err != nil {
				t.Fatal(err)
			}
			stored, err := bases.Image(digest)
			if err != nil {
				t.Fatal(err)
			}
			if found, err := toolchains.Keep(t.Context(), stored); err != nil || !found.Kept {
				t.Fatalf("as it was: %+v, %v", found, err)
			}
			if err := os.RemoveAll(filepath.Join(string(toolchains), digest.String())); err != nil {
				t.Fatal(err)
			}
			source, err := change.content()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(source)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(bases.Path(digest), "blobs", "sha256", change.blob.Hex), string(content))
			want := "blob " + change.blob.String() + " was changed"
			if found, err := toolchains.Keep(t.Context(), stored); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("kept: %+v, %v", found, err)
			}
			if found, err := gocache.Inspect(t.Context(), stored); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("looked at: %+v, %v", found, err)
			}
			onlyEntries(t, gocache.BaseImages(toolchains))
		})
	}
}

// manifestOf is an image's manifest, with a space more.
func manifestOf(img v1.Image) (io.ReadCloser, error) {
	raw, err := img.RawManifest()
	return io.NopCloser(strings.NewReader(string(raw) + " ")), err
}

// interrupted is a context that something happens beside.
type interrupted struct {
	context.Context
	by func()
}

func (c interrupted) Err() error {
	c.by()
	return c.Context.Err()
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func relink(t *testing.T, path, target string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func setTime(t *testing.T, path string, to time.Time) {
	t.Helper()
	if err := os.Chtimes(path, to, to); err != nil {
		t.Fatal(err)
	}
}
