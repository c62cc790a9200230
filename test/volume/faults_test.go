package volume

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever is the matter with the volume: the build succeeds, its image is the
// same, and the log says which cache was not used and why.
func TestABuildOnAVolumeWithAFault(t *testing.T) {
	s := newSite(t)
	source := s.newSource(t, "source", 0)
	want, _ := s.newPod(t, source, "").run(t)
	kept := s.mkdir(t, "kept")
	if got, _ := s.newPod(t, source, kept).run(t); got != want {
		t.Fatalf("with caches it is %s, without %s", got, want)
	}
	for _, tc := range []struct {
		name   string
		fault  func(t *testing.T, volume string)
		says   []string // nothing, if it is nothing that a build goes without
		source string   // "" for the usual one
		// mended undoes what no build could; nil where a build does.
		mended func(t *testing.T, volume string)
	}{
		{name: "full", fault: func(t *testing.T, volume string) {
			mountMemory(t, volume, "size=800m")
			fill(t, volume, 700<<20)
		}, mended: unmount, says: []string{
			"cache go-build is not used by this build: /workspace/cache: only 104.9MB left on the volume",
			"cache go-mod is not used by this build: /workspace/cache: only 104.9MB left on the volume",
			"cache bases is not used by this build: /workspace/cache: only 104.9MB left on the volume",
			"cache toolchains is not used by this build: /workspace/cache: only 104.9MB left on the volume",
		}},
		{name: "no more files", fault: func(t *testing.T, volume string) {
			mountMemory(t, volume, "size=2g,nr_inodes=900")
		}, mended: unmount, says: []string{"cache go-build is not used by this build: /workspace/cache: only ", "more files can be made on the volume"}},
		{name: "no more files in the middle of the build", fault: func(t *testing.T, volume string) {
			mountMemory(t, volume, "size=2g,nr_inodes=1800")
		}, mended: unmount, says: []string{"no space left on device"}},
		{name: "read-only", fault: func(t *testing.T, volume string) {
			mountMemory(t, volume, "size=2g")
			makeToolchains(t, volume)
			if err := unix.Mount("", volume, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}, mended: unmount, says: []string{
			"cache go-build is not used by this build: mkdir /workspace/cache/go-build: read-only file system",
			"cache toolchains is not used by this build: ",
		}},
		{name: "no file locks", fault: func(t *testing.T, volume string) {
			mountWithoutLocks(t, volume, s.mkdir(t, "behind"))
		}, mended: unmount, says: []string{
			"cache go-mod is not used by this build: ", "the file system has no file locks, and go commands need them",
		}},
		{name: "nobody may write", fault: func(t *testing.T, volume string) {
			for _, name := range []string{"go-build", "go-mod", "bases"} {
				setImmutable(t, filepath.Join(volume, name), true)
			}
		}, mended: func(t *testing.T, volume string) {
			for _, name := range []string{"go-build", "go-mod", "bases"} {
				setImmutable(t, filepath.Join(volume, name), false)
			}
		}, says: []string{"cache go-mod is not used by this build: ", "operation not permitted"}},
		{name: "another's", fault: func(t *testing.T, volume string) {
			each(t, volume, func(path string, info fs.FileInfo) error {
				if info.Mode()&fs.ModeSymlink == 0 && info.IsDir() && !strings.Contains(path, "sha256:") {
					if err := os.Chmod(path, 0o700); err != nil {
						return err
					}
				}
				return os.Lchown(path, 1234, 1234)
			})
		}},
		{name: "foreign files", fault: func(t *testing.T, volume string) {
			for _, name := range []string{"go-build", "go-mod", "bases", "trash", "usage.json"} {
				if err := os.RemoveAll(filepath.Join(volume, name)); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"go-build", "go-mod", "go-build.7", "bases", "trash", "usage.json/x"} {
				path := filepath.Join(volume, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte("somebody's"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{name: "full by the time a go command runs", source: s.newSource(t, "filling", 0,
			"RUN CGO_ENABLED=0 go build", "RUN head -c 800000000 /dev/zero > /workspace/cache/filling; CGO_ENABLED=0 go build"), fault: func(t *testing.T, volume string) {
			mountMemory(t, volume, "size=600m")
		}, mended: unmount, says: []string{
			"no space left on device",
			"left on the volume, which may be why a go command failed: the build starts again without those of the volume",
		}},
		{name: "full of what a killed prepare has left", fault: func(t *testing.T, volume string) {
			mountMemory(t, volume, "size=800m")
			left := filepath.Join(volume, "bases", ".staging-1")
			if err := os.MkdirAll(left, 0o755); err != nil {
				t.Fatal(err)
			}
			fill(t, left, 700<<20)
			old := time.Now().Add(-25 * time.Hour)
			if err := os.Chtimes(left, old, old); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "half a module, as after a node's crash", fault: func(t *testing.T, volume string) {
			module := filepath.Join(volume, "go-mod", library+"@v1.0.0")
			if err := os.Truncate(filepath.Join(module, "library.go"), 10); err != nil {
				t.Fatal(err)
			}
			// Extracted shortly before: a crash takes nothing that is older.
			if err := os.Chtimes(module, time.Time{}, time.Now()); err != nil {
				t.Fatal(err)
			}
			// So that what uses it is compiled, and the mark of the build that ended there.
			if err := os.RemoveAll(filepath.Join(volume, "go-build")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(volume, "go-mod", ".unfinished-1"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, says: []string{"cache go-mod: " + library + "@v1.0.0: its files have another hash than it was downloaded with"}},
		{name: "every file half-written", fault: func(t *testing.T, volume string) {
			each(t, volume, func(path string, info fs.FileInfo) error {
				if !info.Mode().IsRegular() {
					return nil
				}
				return os.Truncate(path, info.Size()/2)
			})
		}, says: []string{"what the cache has is not used: damaged: "}},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "_"), func(t *testing.T) {
			volume := s.mkdir(t, "volume")
			t.Cleanup(func() {
				if err := os.RemoveAll(volume); err != nil {
					t.Error(err)
				}
			})
			// With its times: a toolchain is known by them.
			if output, err := exec.CommandContext(t.Context(), "cp", "-a", kept+"/.", volume).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			tc.fault(t, volume)
			first := s.newPod(t, cmp.Or(tc.source, source), volume)
			got, _ := first.run(t)
			if got != want {
				t.Errorf("the image is %s, without a cache %s", got, want)
			}
			for _, text := range tc.says {
				if !strings.Contains(first.log.String(), text) {
					t.Errorf("the log does not say %q:\n%s", text, &first.log)
				}
			}
			troubles := trouble.FindAllString(first.log.String(), -1)
			t.Logf("it says\n%s", strings.Join(troubles, "\n"))
			if len(tc.says) == 0 && len(troubles) > 0 {
				t.Errorf("there is no reason for it to say %q", troubles)
			}
			if tc.mended != nil {
				tc.mended(t, volume)
			}
			// Nobody had to clear anything.
			if got, _ := s.newPod(t, source, volume).run(t); got != want {
				t.Errorf("after that the image is %s, without a cache %s", got, want)
			}
			last := s.newPod(t, source, volume)
			if got, _ := last.run(t); got != want {
				t.Errorf("in the end the image is %s, without a cache %s", got, want)
			}
			for _, text := range []string{"not used", "Go is not from the cache"} {
				if strings.Contains(last.log.String(), text) {
					t.Errorf("the caches are not used again:\n%s", &last.log)
				}
			}
		})
	}
}

// trouble is a line of a log that is about a cache that is of no use.
var trouble = regexp.MustCompile(`(?m)^.*(not used|not kept|not cached|without a cache|next build tries|no space left|not from the cache).*$`)

// newSource is the app of these tests; n tells one source from another.
// Pairs of texts are replaced in the Dockerfile.
func (s *site) newSource(t *testing.T, name string, n int, replace ...string) string {
	t.Helper()
	dir := s.mkdir(t, name)
	for file, content := range map[string]string{
		"go.mod":       "module example.com/app\n\ngo 1.24\n\nrequire " + library + " v1.0.0\n",
		"go.sum":       s.goSum,
		"main.go":      "package main\n\nimport (\n\t\"" + library + "\"\n\n\t\"example.com/app/word\"\n)\n\nfunc main() { println(word.Word, library.Data) }\n",
		"word/word.go": fmt.Sprintf("package word\n\nconst Word = \"number %d\"\n", n),
		"Dockerfile": "FROM golang:alpine AS build\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -o /bin/app\n\n" +
			"FROM gcr.io/distroless/static\nCOPY --from=build /bin/app /bin/app\nENTRYPOINT [\"/bin/app\"]\n",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if file == "Dockerfile" {
			content = strings.NewReplacer(replace...).Replace(content)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mountMemory hides a folder behind a file system of its own.
func mountMemory(t *testing.T, volume, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", volume, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(volume, unix.MNT_DETACH) })
}

// unmount leaves what is behind it.
func unmount(t *testing.T, volume string) {
	t.Helper()
	if err := unix.Unmount(volume, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

// fill takes bytes of a volume.
func fill(t *testing.T, volume string, bytes int64) {
	t.Helper()
	file, err := os.Create(filepath.Join(volume, "another's"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, bytes); err != nil {
		t.Fatal(err)
	}
}

func makeToolchains(t *testing.T, volume string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(volume, "toolchains"), 0o777); err != nil {
		t.Fatal(err)
	}
}

// setImmutable makes a folder one that not even root can write, as on a network
// file system where root is nobody.
func setImmutable(t *testing.T, dir string, immutable bool) {
	t.Helper()
	file, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const flag = 0x10 // FS_IMMUTABLE_FL of linux/fs.h
	flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Fatal(err)
	}
	if flags |= flag; !immutable {
		flags &^= flag
	}
	if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		t.Fatal(err)
	}
	if immutable {
		t.Cleanup(func() { setImmutable(t, dir, false) })
	}
}

// each visits everything on a volume.
func each(t *testing.T, volume string, visit func(path string, info fs.FileInfo) error) {
	t.Helper()
	err := filepath.WalkDir(volume, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return visit(path, info)
	})
	if err != nil {
		t.Fatal(err)
	}
}
