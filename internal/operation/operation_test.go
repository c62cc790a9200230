package operation

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"github.com/ulikunitz/xz"

	"github.com/slipway-ci/slipway/internal/buildcontext"
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

// plain is an action as BuildKit has it for COPY.
func plain(src, dest string) CopyAction {
	return CopyAction{Src: src, Dest: dest, Wildcard: true, FollowSymlink: true, DirContents: true, AllowEmptyWildcard: true}
}

func (a CopyAction) with(change func(*CopyAction)) CopyAction {
	change(&a)
	return a
}

// needsRoot skips a test of what only root may do: to give files away.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can give files to others: run the tests as root")
	}
}

// TestCopy: what COPY does with one source of the build context.
func TestCopy(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	context := []string{
		"a", "b.md", "bin/app 755", "bin/deep/x", "private/ 700", "private/key 600", "empty/", "link -> a", "dir -> bin", "abs -> /a", "out -> ../../a", "broken -> nothing",
		"left/out", "left/in",
	}
	const ignore = "left/out\nb.md\nsecret\n"
	mode := func(m uint32) *uint32 { return &m }
	for name, tc := range map[string]struct {
		action CopyAction
		there  []string // in the stage
		given  *fscopy.User
		want   []string
		err    string
	}{
		"a file":                    {action: plain("/a", "/x"), want: []string{"x = a"}},
		"a file to a folder":        {action: plain("/a", "/x/y/"), want: []string{"x/", "x/y/", "x/y/a = a"}},
		"a file to one that is":     {action: plain("/a", "/x"), there: []string{"x/old"}, want: []string{"x/", "x/a = a", "x/old"}},
		"over a file":               {action: plain("/a", "/x"), there: []string{"x 600"}, want: []string{"x = a"}},
		"what is in a folder":       {action: plain("/bin", "/x"), want: []string{"x/", "x/app 755 = bin/app", "x/deep/", "x/deep/x = bin/deep/x"}},
		"of a folder with a mode":   {action: plain("/private/", "/x/"), want: []string{"x/", "x/key 600 = private/key"}},
		"into a folder with a mode": {action: plain("/bin/", "/x/"), there: []string{"x/ 711"}, want: []string{"x/ 711", "x/app 755 = bin/app", "x/deep/", "x/deep/x = bin/deep/x"}},
		"an empty folder":           {action: plain("/empty", "/x"), want: []string{"x/"}},
		"what a link leads to":      {action: plain("/link", "/x"), want: []string{"x = a"}},
		"a folder behind a link":    {action: plain("/dir", "/x"), want: []string{"x/", "x/app 755 = bin/app", "x/deep/", "x/deep/x = bin/deep/x"}},
		"an absolute link":          {action: plain("/abs", "/x"), want: []string{"x = a"}},
		"a link that leaves":        {action: plain("/out", "/x"), want: []string{"x = a"}}, // the context is the root for it
		"a link to nothing":         {action: plain("/broken", "/x"), err: "no such file or folder"},
		"all": {action: plain("/", "/x"), want: []string{
			"x/", "x/a = a", "x/abs -> /a", "x/bin/", "x/bin/app 755 = bin/app", "x/bin/deep/", "x/bin/deep/x = bin/deep/x", "x/broken -> nothing", "x/dir -> bin", "x/empty/",
			"x/left/", "x/left/in = left/in", "x/link -> a", "x/out -> ../../a", "x/private/ 700", "x/private/key 600 = private/key",
		}},
		"a pattern":                     {action: plain("/bi*", "/x/"), want: []string{"x/", "x/app 755 = bin/app", "x/deep/", "x/deep/x = bin/deep/x"}},
		"a pattern that takes nothing":  {action: plain("/z*", "/x/"), want: []string{}},
		"and may not":                   {action: plain("/z*", "/x/").with(func(a *CopyAction) { a.AllowEmptyWildcard = false }), err: "/z*: no such file"},
		"no pattern":                    {action: plain("/[a]", "/x").with(func(a *CopyAction) { a.Wildcard = false }), err: "/[a]: no such file or folder"},
		"what is not there":             {action: plain("/absent", "/x"), err: "/absent"},
		"what is left out":              {action: plain("/b.md", "/x"), err: "/b.md: the ignore file leaves it out of the build context"},
		"what is left out of a folder":  {action: plain("/left", "/x"), want: []string{"x/", "x/in = left/in"}},
		"out of the context":            {action: plain("/../../a", "/x"), want: []string{"x = a"}},
		"through a link of the stage's": {action: plain("/a", "/opt/x"), there: []string{"usr/", "opt -> usr"}, want: []string{"opt -> usr", "usr/", "usr/x = a"}},
		"an absolute one":               {action: plain("/a", "/opt/x"), there: []string{"usr/", "opt -> /usr"}, want: []string{"opt -> /usr", "usr/", "usr/x = a"}},
		"to an owner":                   {action: plain("/bin", "/x/y"), given: &fscopy.User{UID: 7, GID: 8}, want: []string{"x/ of 7:8", "x/y/ of 7:8", "x/y/app 755 = bin/app of 7:8", "x/y/deep/ of 7:8", "x/y/deep/x = bin/deep/x of 7:8"}},
		"with a mode":                   {action: plain("/private", "/x").with(func(a *CopyAction) { a.Mode = mode(0o751) }), want: []string{"x/ 751", "x/key 751 = private/key"}},
		"with a mode in words":          {action: plain("/private", "/x").with(func(a *CopyAction) { a.Mode, a.ModeStr = mode(0), "u=rwX,go=rX" }), want: []string{"x/", "x/key = private/key"}},
		"without some":                  {action: plain("/", "/x").with(func(a *CopyAction) { a.Exclude = []string{"*", "!bin", "**/x"} }), want: []string{"x/", "x/bin/", "x/bin/app 755 = bin/app", "x/bin/deep/"}},
		"with their folders": {action: plain("/", "/x").with(func(a *CopyAction) { a.Include = []string{"bin/deep/x"} }), want: []string{
			"x/", "x/bin/", "x/bin/deep/", "x/bin/deep/x = bin/deep/x",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, dest := tree(t, context...), tree(t, tc.there...)
			built, err := buildcontext.Open(from, []byte(ignore))
			must(t, err)
			err = tc.action.copy(t.Context(), from, dest, built, tc.given, true)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %s", err, tc.err)
				}
				return
			}
			must(t, err)
			if diff := cmp.Diff(tc.want, listed(t, dest)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Files of the build context are root's; those of a stage keep their owners.
func TestOwnersOfCopies(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	for _, roots := range []bool{true, false} {
		from, dest := tree(t, "d/a"), t.TempDir()
		must(t, errors.Join(os.Lchown(from+"/d", 7, 8), os.Lchown(from+"/d/a", 9, 10)))
		a := plain("/d", "/x")
		must(t, a.copy(t.Context(), from, dest, nil, nil, roots))
		want := []string{"x/", "x/a = d/a of 9:10"} // of a folder only what is in it is copied
		if roots {
			want[1] = "x/a = d/a"
		}
		if got := listed(t, dest); !slices.Equal(got, want) {
			t.Errorf("root's %t: %q, want %q", roots, got, want)
		}
	}
}

// What hard links join in a stage is joined in the image too.
func TestHardLinksAreCopied(t *testing.T) {
	t.Parallel()
	from, dest := tree(t, "d/a"), t.TempDir()
	must(t, os.Link(from+"/d/a", from+"/d/b"))
	a := plain("/d", "/x")
	must(t, a.copy(t.Context(), from, dest, nil, nil, false))
	one, err := os.Stat(dest + "/x/a")
	must(t, err)
	other, err := os.Stat(dest + "/x/b")
	must(t, err)
	if !os.SameFile(one, other) {
		t.Error("they are two files")
	}
}

// COPY --parents says what a pattern has to take.
func TestRequires(t *testing.T) {
	t.Parallel()
	from := tree(t, "a/b", "a/broken -> nothing", "left/out")
	built, err := buildcontext.Open(from, []byte("left\n"))
	must(t, err)
	for required, there := range map[string]bool{"/a/b": true, "a/b": true, "/a/broken": true, "/a": true, "/a/c": false, "/left/out": false, "/": false} {
		a := plain("/", "/x")
		a.Required = []string{required}
		if err := a.requires(from, required, built); (err == nil) != there {
			t.Errorf("%s: %v", required, err)
		}
		if err := a.copy(t.Context(), from, t.TempDir(), built, nil, false); (err == nil) != there {
			t.Errorf("copied with %s: %v", required, err)
		}
	}
}

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

func TestInline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, i := range []Inline{{Name: "/EOF", Mode: 0o644, Data: []byte("x\n")}, {Name: "run.sh", Mode: 0o100755}, {Name: "/../up", Mode: 0o600}} {
		folder, err := i.write(dir)
		must(t, err)
		at := filepath.Join(folder, filepath.Base(i.Name))
		content, err := os.ReadFile(at)
		if err != nil || !bytes.Equal(content, i.Data) || filepath.Dir(folder) != dir {
			t.Errorf("%s is %q in %s, %v", i.Name, content, folder, err)
		}
		if info, err := os.Stat(at); err != nil || info.Mode() != fs.FileMode(i.Mode&0o777) {
			t.Errorf("%s: %v, %v", i.Name, info.Mode(), err)
		}
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	modified := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/dated":
			w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
		case "/moved":
			http.Redirect(w, r, "/dated", http.StatusFound)
			return
		case "/absent":
			http.NotFound(w, r)
			return
		case "/short":
			w.Header().Set("Content-Length", "100")
		}
		fmt.Fprint(w, "content")
	}))
	t.Cleanup(server.Close)
	sum := digest.FromString("content").String()
	for name, tc := range map[string]struct {
		path, name, checksum string
		at                   time.Time
		err                  string
	}{
		"dated":              {path: "/dated", name: "x", at: modified},
		"moved":              {path: "/moved", name: "x", at: modified},
		"undated":            {path: "/undated", name: "../x"},
		"the right checksum": {path: "/x", name: "x", checksum: sum},
		"of another length":  {path: "/x", name: "x", checksum: digest.SHA512.FromString("content").String()},
		"a wrong checksum":   {path: "/x", name: "x", checksum: "sha256:" + strings.Repeat("a", 64), err: "/x: its checksum is ed7002b439e9…, not aaaaaaaaaaaa…"},
		"what is not there":  {path: "/absent", name: "x", err: "/absent: 404 Not Found"},
		"cut off":            {path: "/short", name: "x", err: "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			folder, err := (&URL{URL: server.URL + tc.path, Name: tc.name, Checksum: tc.checksum}).download(t.Context(), dir)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), "GET "+server.URL) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %s", err, tc.err)
				}
				return
			}
			must(t, err)
			at := filepath.Join(folder, "x")
			info, err := os.Stat(at)
			must(t, err)
			if content, err := os.ReadFile(at); err != nil || string(content) != "content" || info.Mode() != 0o600 {
				t.Errorf("%q with %v, %v", content, info.Mode(), err)
			}
			if !tc.at.IsZero() && !info.ModTime().Equal(tc.at) {
				t.Errorf("of %v", info.ModTime())
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&URL{URL: server.URL, Name: "x"}).download(ended, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("once the build has ended: %v", err)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	etc := t.TempDir()
	must(t, os.WriteFile(etc+"/passwd", []byte("root:x:0:0::/root:\napp:x:7:8::/home/app:\n9:x:10:11::/:\n"), 0o644))
	must(t, os.WriteFile(etc+"/group", []byte("root:x:0:\nstaff:x:50:app\napp:x:8:\n"), 0o644))
	name := func(n string) *Identity { return &Identity{Name: n} }
	number := func(n uint32) *Identity { return &Identity{ID: n} }
	for title, tc := range map[string]struct {
		owner    Owner
		uid, gid int
		withGID  int // where the file system is empty
		withUID  int
	}{
		"a name":               {owner: Owner{User: name("app")}, uid: 7, gid: 8},
		"a name and a group":   {owner: Owner{User: name("app"), Group: name("staff")}, uid: 7, gid: 50},
		"a name and a number":  {owner: Owner{User: name("app"), Group: number(9)}, uid: 7, gid: 9, withGID: 9},
		"a number":             {owner: Owner{User: number(7)}, uid: 7, gid: 7, withUID: 7, withGID: 7},
		"a number and a group": {owner: Owner{User: number(7), Group: name("staff")}, uid: 7, gid: 50, withUID: 7, withGID: 7},
		"no such user":         {owner: Owner{User: name("nobody")}},
		"no such group":        {owner: Owner{User: name("app"), Group: name("nobody")}, uid: 7, gid: 8},
		"a group alone":        {owner: Owner{Group: name("staff")}, gid: 50},
		"root":                 {owner: Owner{User: number(0)}},
	} {
		if got, err := tc.owner.lookup(etc); err != nil || got.UID != tc.uid || got.GID != tc.gid {
			t.Errorf("%s: %+v, %v, want %d:%d", title, got, err, tc.uid, tc.gid)
		}
		for _, nothing := range []string{"", filepath.Join(etc, "absent"), filepath.Join(etc, "passwd")} {
			if got, err := tc.owner.lookup(nothing); err != nil || got.UID != tc.withUID || got.GID != tc.withGID {
				t.Errorf("%s without users: %+v, %v, want %d:%d", title, got, err, tc.withUID, tc.withGID)
			}
		}
	}
	if got, err := (*Owner)(nil).lookup(etc); got != nil || err != nil {
		t.Errorf("nobody is %+v, %v", got, err)
	}
}

// TestOverlay: COPY --link puts its files over the stage's, as a layer.
func TestOverlay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ upper, lower, want []string }{
		"beside":                    {[]string{"a"}, []string{"b"}, []string{"a", "b"}},
		"a file over another":       {[]string{"a 600"}, []string{"a"}, []string{"a 600"}},
		"a folder over another":     {[]string{"d/ 700", "d/a"}, []string{"d/b"}, []string{"d/ 700", "d/a", "d/b"}},
		"a folder over a file":      {[]string{"d/a"}, []string{"d"}, []string{"d/", "d/a"}},
		"a file over a folder":      {[]string{"d"}, []string{"d/a"}, []string{"d"}},
		"a folder over a link":      {[]string{"d/a"}, []string{"d -> e", "e/b"}, []string{"d/", "d/a", "e/", "e/b"}},
		"a link over a file":        {[]string{"l -> x"}, []string{"l"}, []string{"l -> x"}},
		"a link over a folder":      {[]string{"l -> x"}, []string{"l/a"}, []string{"l -> x"}},
		"over what a folder is not": {[]string{"d/e/a"}, []string{"d/e -> ..", "x"}, []string{"d/", "d/e/", "d/e/a", "x"}},
		"below what was a file":     {[]string{"d/e/f"}, []string{"d/e"}, []string{"d/", "d/e/", "d/e/f"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upper, lower := tree(t, tc.upper...), tree(t, tc.lower...)
			must(t, overlay(upper, lower))
			if diff := cmp.Diff(tc.want, listed(t, lower)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCleaned(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]string{"": "/", "/": "/", "a": "/a", "/a/": "/a/", "a/.": "/a/.", "/a/../b": "/b", "../../a": "/a", "//a//b/": "/a/b/", ".": "/", "./": "/"} {
		if got := cleaned(p); got != want {
			t.Errorf("%q: %q, want %q", p, got, want)
		}
	}
}

func TestHidden(t *testing.T) {
	t.Parallel()
	c := &keeper{hidden: []string{"/proc", "/workspace/source", "/tekton/*/x", "/var/run"}}
	for at, skipped := range map[string]bool{
		"/": false, "/proc": true, "/proc/self/exe": true, "/procs": false, "/workspace": false, "/workspace/source/a": true,
		"/tekton": false, "/tekton/a": false, "/tekton/a/x": true, "/tekton/a/x/y": true, "/tekton/a/b/x": false, "/var/run/x": true,
	} {
		if got := c.skipped(at); got != skipped {
			t.Errorf("%s is skipped: %t", at, got)
		}
	}
	for _, tc := range []struct {
		pattern, folder, inside string
		ok                      bool
	}{
		{"/proc", "/", "proc", true},
		{"/workspace/source", "/workspace", "source", true},
		{"/workspace/source", "/work", "source", false},
		{"/tekton/*/x", "/tekton/a", "x", true},
		{"/tekton/*/x", "/tekton", "*/x", true},
		{"/a/b", "/a/b", "", true},
		{"/a", "/a/b", "", false},
	} {
		if inside, ok := below(tc.pattern, tc.folder); ok != tc.ok || ok && inside != tc.inside {
			t.Errorf("%s below %s: %q, %t", tc.pattern, tc.folder, inside, ok)
		}
	}
}

// A pattern is resolved as the copy that follows does it: links are followed up
// to the first element with a special character.
func TestMatches(t *testing.T) {
	t.Parallel()
	dir := tree(t, "d/a1", "d/a2", "d/b", "d/sub/a3", "e/sub/a4", "link -> d", "d/linked -> sub", "d/hidden/a5")
	c := &keeper{hidden: []string{dir + "/d/hidden"}}
	for pattern, want := range map[string][]string{
		"/d/a*":      {"/d/a1", "/d/a2"},
		"/link/a*":   {"/link/a1", "/link/a2"},
		"/d/a[2-9]":  {"/d/a2"},
		"/*/sub/a?":  {"/d/sub/a3", "/e/sub/a4"},
		"/d/*/a*":    {"/d/sub/a3"},
		"/d/h*":      nil,
		"/d/z*":      nil,
		"/absent/z*": nil,
		"/d/a1/*":    nil,
		"/d/b":       {"/d/b"},
	} {
		var full []string
		for _, one := range want {
			full = append(full, dir+one)
		}
		got := c.matches(dir + pattern)
		slices.Sort(got)
		if !slices.Equal(got, full) {
			t.Errorf("%s: %q, want %q", pattern, got, full)
		}
	}
	for part, want := range map[string]bool{"a": false, "*": true, "a?": true, "[a]": true, `\*`: false, `\\*`: true, `a\`: false} {
		if got := hasSpecial(part); got != want {
			t.Errorf("%s is a pattern: %t", part, got)
		}
	}
}

// TestKeep: what later stages copy, with the links that lead to it and without
// what kaniko's container has there.
func TestKeep(t *testing.T) {
	t.Parallel()
	dir := tree(t, "bin/app 755", "bin/other", "lib/ 711", "lib/a", "lib/mounted/x", "lib/kept/y", "usr -> bin", "abs -> "+"REPLACED", "chain -> usr/app", "broken -> nothing", "loop -> loop", "empty/.config/hidden/x")
	must(t, errors.Join(os.Remove(dir+"/abs"), os.Symlink(dir+"/lib", dir+"/abs")))
	hidden := []string{dir + "/lib/mounted", dir + "/empty/.config/hidden"}
	for name, tc := range map[string]struct {
		paths    []string
		wildcard bool
		want     []string
		err      string
	}{
		"a file":              {paths: []string{"/bin/app"}, want: []string{"bin/", "bin/app 755"}},
		"a folder":            {paths: []string{"/lib"}, want: []string{"lib/ 711", "lib/a", "lib/kept/", "lib/kept/y"}},
		"through a link":      {paths: []string{"/usr/app"}, want: []string{"bin/", "bin/app 755", "usr -> bin"}},
		"an absolute link":    {paths: []string{"/abs/a"}, want: []string{"abs -> DIR/lib", "lib/ 711", "lib/a"}},
		"a link to a link":    {paths: []string{"/chain"}, want: []string{"bin/", "bin/app 755", "chain -> usr/app", "usr -> bin"}},
		"a link to nothing":   {paths: []string{"/broken"}, want: []string{"broken -> nothing"}},
		"a link to itself":    {paths: []string{"/loop"}, err: "too many levels of symbolic links"},
		"nothing":             {paths: []string{"/absent", "/bin/app/x"}, want: []string{"bin/"}},
		"what is hidden":      {paths: []string{"/lib/mounted/x", "/lib/mounted"}, want: []string{"lib/ 711"}},
		"around what is":      {paths: []string{"/empty"}, want: []string{"empty/"}},
		"the same twice":      {paths: []string{"/bin/app", "/bin", "/bin/app"}, want: []string{"bin/", "bin/app 755", "bin/other"}},
		"a pattern":           {paths: []string{"/bin/o*"}, wildcard: true, want: []string{"bin/", "bin/other"}},
		"a pattern of a link": {paths: []string{"/usr/o*"}, wildcard: true, want: []string{"bin/", "bin/other", "usr -> bin"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept := t.TempDir()
			c := &keeper{kept: kept, hidden: hidden}
			var err error
			for _, p := range tc.paths {
				matches := []string{dir + p}
				if tc.wildcard {
					matches = c.matches(dir + p)
				}
				for _, match := range matches {
					err = errors.Join(err, c.keep(t.Context(), match, 0, true))
				}
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %s", err, tc.err)
				}
				return
			}
			must(t, err)
			got := []string{}
			for _, entry := range listed(t, filepath.Join(kept, dir)) {
				entry, _, _ = strings.Cut(strings.ReplaceAll(entry, dir, "DIR"), " = ")
				got = append(got, entry)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The digest is of all that a copy may take, and not of times.
func TestDigestOfWhatIsKept(t *testing.T) {
	t.Parallel()
	entries := []string{"d/a", "d/l -> a"}
	dir := tree(t, entries...)
	before, err := digestOf(dir)
	must(t, err)
	must(t, os.Chtimes(dir+"/d/a", time.Unix(1, 0), time.Unix(1, 0)))
	if same, err := digestOf(dir); err != nil || same != before {
		t.Errorf("with other times: %s, %v", same, err)
	}
	for name, change := range map[string]func(dir string) error{
		"content": func(dir string) error { return os.WriteFile(dir+"/d/a", []byte("b/a"), 0o644) },
		"mode":    func(dir string) error { return os.Chmod(dir+"/d/a", 0o755) },
		"name":    func(dir string) error { return os.Rename(dir+"/d/a", dir+"/d/b") },
		"link":    func(dir string) error { return errors.Join(os.Remove(dir+"/d/l"), os.Symlink("b", dir+"/d/l")) },
		"more":    func(dir string) error { return os.Mkdir(dir+"/e", 0o755) },
	} {
		dir := tree(t, entries...)
		must(t, change(dir))
		if after, err := digestOf(dir); err != nil || after == before {
			t.Errorf("another %s: %s, %v", name, after, err)
		}
	}
}

func TestWriteAndRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	if code := Main(t.Context(), dir, []string{"0"}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "read operation 0 of the step prepare: ") {
		t.Errorf("without operations: %d, %s", code, &stderr)
	}
	must(t, Write(dir, World{}, nil))
	if left := listed(t, dir); len(left) > 0 {
		t.Errorf("of nothing is left %q", left)
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

func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := tree(t, "one/tool", "two/tool 755", "two/folder/ 755", "three/tool 755")
	searched := strings.Join([]string{dir + "/absent", dir + "/one", dir + "/two", dir + "/three"}, ":")
	if got, err := lookPath("tool", searched); err != nil || got != dir+"/two/tool" {
		t.Errorf("got %s, %v", got, err)
	}
	for _, name := range []string{"folder", "absent"} {
		if got, err := lookPath(name, searched); err == nil {
			t.Errorf("%s is %s", name, got)
		}
	}
	if got, err := lookPath("./tool", ""); err != nil || got != "./tool" {
		t.Errorf("a path is %s, %v", got, err)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"0": 0, "root": 0, "65532": 65532, "4294967295": 4294967295} {
		if got, err := number(name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "app", "7x", "07", "-1", "+1", " 1", "4294967296"} {
		if got, err := number(name); err == nil {
			t.Errorf("%q: %d", name, got)
		}
	}
}
