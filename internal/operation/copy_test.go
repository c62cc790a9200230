package operation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	digest "github.com/opencontainers/go-digest"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/buildcontext"
)

// plain is an action as BuildKit has it for COPY.
func plain(src, dest string) CopyAction {
	return CopyAction{Src: src, Dest: dest, Wildcard: true, FollowSymlink: true, DirContents: true, AllowEmptyWildcard: true}
}

func (a CopyAction) with(change func(*CopyAction)) CopyAction {
	change(&a)
	return a
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
			must(t, overlay(upper, lower, &keeper{}))
			if diff := cmp.Diff(tc.want, listed(t, lower)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A folder with a mount in it is not replaced by a file, and a pipe not waited for.
func TestOverlayOfWhatCannotBe(t *testing.T) {
	t.Parallel()
	upper, lower := tree(t, "d"), tree(t, "d/mount/x")
	err := overlay(upper, lower, &keeper{hidden: []string{"/d/mount"}})
	if err == nil || !strings.Contains(err.Error(), "/d: kaniko's container has a mount or a cache in this folder") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(lower + "/d/mount/x"); err != nil {
		t.Error(err)
	}
	shm, err := os.MkdirTemp("/dev/shm", "slipway-overlay-") //nolint:usetesting // another file system
	if err != nil {
		shm = t.TempDir() // there is no other file system
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	must(t, unix.Mkfifo(shm+"/pipe", 0o640))
	must(t, overlay(shm, lower, &keeper{}))
	if info, err := os.Lstat(lower + "/pipe"); err != nil || info.Mode() != fs.ModeNamedPipe|0o640 {
		t.Errorf("got %v, %v", info, err)
	}
}

// Names of one file stay so, also where files are moved to another file system,
// as a container's and that of its volumes are.
func TestOverlayKeepsHardLinks(t *testing.T) {
	t.Parallel()
	for _, where := range []string{os.TempDir(), "/dev/shm"} {
		upper, err := os.MkdirTemp(where, "slipway-overlay-") //nolint:usetesting // another file system too
		if err != nil {
			continue // there is no such file system
		}
		t.Cleanup(func() { os.RemoveAll(upper) })
		lower := tree(t, "b", "other")
		must(t, os.WriteFile(upper+"/a", []byte("one"), 0o644))
		must(t, os.Mkdir(upper+"/d", 0o755))
		must(t, errors.Join(os.Link(upper+"/a", upper+"/b"), os.Link(upper+"/a", upper+"/d/c")))
		must(t, overlay(upper, lower, &keeper{}))
		first, err := os.Stat(lower + "/a")
		must(t, err)
		for _, name := range []string{"/b", "/d/c"} {
			if other, err := os.Stat(lower + name); err != nil || !os.SameFile(first, other) {
				t.Errorf("from %s: %s is another file than /a, %v", where, name, err)
			}
		}
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
