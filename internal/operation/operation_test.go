package operation

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree makes a folder of entries such as "a/b", "a/b mode", "d/" and "link -> to".
// What a file has in it is its own name.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, entry := range entries {
		name, target, link := strings.Cut(entry, " -> ")
		name, mode, hasMode := strings.Cut(name, " ")
		at := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		switch {
		case link:
			must(t, os.Symlink(target, at))
			continue
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(at, 0o755))
		default:
			must(t, os.WriteFile(at, []byte(name), 0o644))
		}
		if hasMode {
			var bits uint32
			_, err := fmt.Sscanf(mode, "%o", &bits)
			must(t, err)
			must(t, os.Chmod(at, fs.FileMode(bits)))
		}
	}
	return dir
}

// listed is what is in a folder: of a file its content, where that is not its
// name, and modes that are not the usual ones.
func listed(t *testing.T, dir string) []string {
	t.Helper()
	list := []string{}
	must(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative := strings.TrimPrefix(name, dir+"/")
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			list = append(list, relative+" -> "+target)
			return nil
		case info.IsDir():
			relative += "/"
			if info.Mode().Perm() != 0o755 {
				relative += fmt.Sprintf(" %o", info.Mode().Perm())
			}
		default:
			if info.Mode().Perm() != 0o644 {
				relative += fmt.Sprintf(" %o", info.Mode().Perm())
			}
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if path := strings.TrimPrefix(name, dir+"/"); string(content) != path {
				relative += " = " + string(content)
			}
		}
		if uid, gid := ids(info); uid != os.Getuid() || gid != os.Getgid() {
			relative += fmt.Sprintf(" of %d:%d", uid, gid)
		}
		list = append(list, relative)
		return nil
	}))
	return list
}

// needsRoot skips a test of what only root may do: to give files away.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can give files to others: run the tests as root")
	}
}

func TestWriteAndRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	if code := Main(t.Context(), dir, []string{"0"}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "read an operation of the step prepare: open "+filepath.Join(dir, "operations")) {
		t.Errorf("without operations: %d, %s", code, &stderr)
	}
	world := World{Context: "/context", Ignore: []string{"x"}, Kept: "/kept", Hidden: []string{"/proc"}}
	must(t, Write(dir, world, []Operation{{Instruction: "Dockerfile:1: COPY a <b>"}, {Instruction: "Dockerfile:2: WORKDIR /w", Mkdir: &Mkdir{Path: "/w"}}}))
	for name, want := range map[string]string{
		"world.json": `{"context":"/context","ignore":["x"],"kept":"/kept","hidden":["/proc"]}` + "\n",
		"0.json":     `{"instruction":"Dockerfile:1: COPY a <b>"}` + "\n",
		"1.json":     `{"instruction":"Dockerfile:2: WORKDIR /w","mkdir":{"path":"/w","mode":0}}` + "\n",
	} {
		if content, err := os.ReadFile(filepath.Join(dir, "operations", name)); err != nil || string(content) != want {
			t.Errorf("%s is %s, %v", name, content, err)
		}
	}
	if got := world.Marker("stage-0"); got != "/kept/stage-0.digest" {
		t.Errorf("the marker is %s", got)
	}
	if code := Main(t.Context(), dir, []string{"@0", "@digest"}, &stdout, &stderr); code != 0 {
		t.Errorf("of digests alone: %d, %s", code, &stderr)
	}
}
