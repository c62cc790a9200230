package modules_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/slipway-ci/slipway/internal/git/gittest"
	"github.com/slipway-ci/slipway/internal/modules"
	"github.com/slipway-ci/slipway/internal/step"
)

// What comes from a repository is what the go command makes of it: the same
// go.mod, files and time.
func TestDirectIsWhatGoDownloads(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	ids := []module.Version{}
	want := func(path string, versions ...string) {
		for _, version := range versions {
			ids = append(ids, module.Version{Path: path, Version: version})
		}
	}

	lib := h.repository(t, "lib", "corp.example/lib")
	gittest.Run(t, lib.dir, "config", "core.autocrlf", "false")
	if err := os.Symlink("lib.go", filepath.Join(lib.dir, "link.go")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(lib.dir, "submodule"), 0o755); err != nil {
		t.Fatal(err)
	}
	lib.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("7", 40)+",submodule")
	write(t, filepath.Join(lib.dir, "run.sh"), "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(lib.dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	lib.commit(map[string]string{
		"go.mod": "module corp.example/lib\n\ngo 1.26\n", "lib.go": goFile, "LICENSE": "root\n",
		"vendor/a.example/a/a.go": goFile, "vendor/modules.txt": "# a.example/a v1.0.0\n",
		"inner/go.mod": "module corp.example/lib/inner\n", "inner/inner.go": goFile,
		"left/out.go": goFile, "subst.txt": "$Format:%H$\n",
		"dos.txt": "a\nb\r\nc", "unix.txt": "a\nb\n", "data/dos.bin": "a\nb\x00", "data/deep/er.txt": "a\n", "data/own.txt": "a\n", "data/own.mac": "a\rb\nc\n",
		".gitattributes":      "left export-ignore\nsubst.txt export-subst\n# no\ndos.* text eol=crlf\n*.bin binary\n/data/**/er.txt eol=crlf\n[!a]nix.txt eol=lf\n",
		"data/.gitattributes": "own.* text=auto eol=crlf\n",
	}, "v1.0.0", "inner/v1.0.0")
	if got := lib.git("ls-tree", "HEAD", "submodule", "run.sh", "link.go"); !strings.Contains(got, "160000") || !strings.Contains(got, "100755") || !strings.Contains(got, "120000") {
		t.Fatalf("the repository has not what it is to have:\n%s", got)
	}
	want("corp.example/lib", "v1.0.0")
	want("corp.example/lib/inner", "v1.0.0")
	lib.commit(map[string]string{
		"sub/go.mod": "module corp.example/lib/sub\n", "sub/sub.go": goFile,
		"sub/v2/go.mod": "module corp.example/lib/sub/v2\n", "sub/v2/sub.go": goFile, "sub/v2/LICENSE": "own\n",
		"v2/go.mod": "module corp.example/lib/v2\n", "v2/lib.go": goFile,
		"large.bin": strings.Repeat("large", 1<<19),
	}, "sub/v1.1.0", "sub/v2.0.0", "v2.0.0", "v1.1.0")
	want("corp.example/lib", "v1.1.0")
	want("corp.example/lib/sub", "v1.1.0")
	want("corp.example/lib/sub/v2", "v2.0.0")
	want("corp.example/lib/v2", "v2.0.0")

	branch := h.repository(t, "branch", "corp.example/branch")
	branch.commit(map[string]string{"go.mod": "module corp.example/branch\n", "x.go": goFile}, "v1.0.0")
	branch.git("checkout", "--quiet", "-b", "v3")
	branch.commit(map[string]string{"go.mod": "module corp.example/branch/v3\n"}, "v3.0.0")
	branch.git("checkout", "--quiet", "main")
	want("corp.example/branch", "v1.0.0")
	want("corp.example/branch/v3", "v3.0.0")

	old := h.repository(t, "old", "corp.example/old")
	old.commit(map[string]string{"x.go": goFile}, "v1.0.0")
	old.commit(map[string]string{"y.go": goFile}, "v2.0.0")
	want("corp.example/old", "v1.0.0", "v2.0.0+incompatible")

	for name, allow := range map[string]string{"pseudo": "false", "filtered": "true"} {
		untagged := h.repository(t, name, "corp.example/"+name)
		untagged.git("config", "uploadpack.allowFilter", allow)
		untagged.git("config", "uploadpack.allowReachableSHA1InWant", allow)
		first := untagged.commit(map[string]string{"x.go": goFile, "sub/go.mod": "module corp.example/" + name + "/sub\n", "sub/y.go": goFile})
		untagged.git("checkout", "--quiet", "-b", "topic")
		topic := untagged.commit(map[string]string{"z.go": goFile})
		untagged.commit(nil)
		tip := untagged.commit(nil)
		untagged.git("checkout", "--quiet", "main")
		want("corp.example/"+name, first, topic, tip)
		want("corp.example/"+name+"/sub", first, topic)
	}

	skewed := h.repository(t, "skewed", "corp.example/skewed")
	before := skewed.commit(map[string]string{"x.go": goFile})
	skewed.git("commit", "--quiet", "--allow-empty", "--date=2020-01-01T00:00:00Z", "--message=x")
	skewed.git("rebase", "--quiet", "--committer-date-is-author-date", "--force-rebase", "HEAD~1")
	want("corp.example/skewed", before)

	upper := h.repository(t, "upper", "corp.example/Team/Lib")
	upper.commit(map[string]string{"go.mod": "module corp.example/Team/Lib\n", "X.go": goFile}, "v1.2.3-RC1")
	want("corp.example/Team/Lib", "v1.2.3-RC1")

	folder := h.repository(t, "folder", "corp.example/folder")
	h.pages.Store("corp.example/folder", h.page("corp.example/folder")+" src/go")
	folder.commit(map[string]string{"src/go/go.mod": "module corp.example/folder\n", "src/go/x.go": goFile, "LICENSE": "root\n"}, "src/go/v1.0.0")
	want("corp.example/folder", "v1.0.0")

	var wanted []modules.Module
	all := h.oracle(t, ids...)
	if len(all) != len(ids) {
		t.Fatalf("the go command tells of %d modules, want %d", len(all), len(ids))
	}
	for _, one := range all {
		if one.Error != "" {
			t.Fatalf("the go command: %s", one.Error)
		}
		wanted = append(wanted, modules.Module{Version: module.Version{Path: one.Path, Version: one.Version}, Sum: one.Sum, ModSum: one.GoModSum})
	}
	f := h.fetcher(t)
	done, err := f.Fetch(t.Context(), wanted)
	if err != nil || done.New != len(wanted) {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, one := range all {
		path, err := module.EscapePath(one.Path)
		if err != nil {
			t.Fatal(err)
		}
		version, err := module.EscapeVersion(one.Version)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(f.Cache, "cache", "download", path, "@v", version)
		if got, want := read(t, at+".mod"), read(t, one.GoMod); got != want {
			t.Errorf("%s@%s: go.mod %q, the go command has %q", one.Path, one.Version, got, want)
		}
		if got, want := timeOf(t, at+".info"), timeOf(t, one.Info); got != want {
			t.Errorf("%s@%s: time %s, the go command has %s", one.Path, one.Version, got, want)
		}
	}
	for _, one := range h.download(t, f.Cache, "off", ids) {
		if one.Error != "" {
			t.Errorf("the go command with what was fetched: %s", one.Error)
		}
	}
	if left, err := os.ReadDir(f.Direct.Folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDirectRefuses(t *testing.T) {
	t.Parallel()
	_, known := theModule(t, newGitHost(t))
	for name, tc := range map[string]struct {
		set  func(h *gitHost, lib *gitRepository, f *modules.Fetcher, wanted *modules.Module)
		want string
	}{
		"a page without a login": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) { h.password = password },
			"http://corp.example/lib?go-get=1: 401 Unauthorized: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://corp.example",
		},
		"a repository without a login": {
			func(h *gitHost, _ *gitRepository, f *modules.Fetcher, _ *modules.Module) {
				h.password, f.Netrc = password, modules.Netrc{"corp.example": {Name: "page", Password: password}}
			},
			"repository http://git.corp.example/lib.git: 401 Unauthorized: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://git.corp.example",
		},
		"a repository with a wrong login": {
			func(h *gitHost, _ *gitRepository, f *modules.Fetcher, _ *modules.Module) {
				h.password = password
				f.Netrc = modules.Netrc{"corp.example": {Name: "page", Password: password}, "git.corp.example": {Name: "robot", Password: "x"}}
			},
			"401 Unauthorized: there is nothing, or the login that the workspace netrc has for git.corp.example may not read it",
		},
		"no repository": {
			func(_ *gitHost, lib *gitRepository, _ *modules.Fetcher, _ *modules.Module) { _ = os.RemoveAll(lib.dir) },
			"404 Not Found: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://git.corp.example",
		},
		"a tag that is not there": {
			func(_ *gitHost, _ *gitRepository, _ *modules.Fetcher, wanted *modules.Module) {
				wanted.Version.Version = "v1.0.1"
			},
			"repository http://git.corp.example/lib.git: it has no tag v1.0.1; push it, or require another version",
		},
		"a commit that is not there": {
			func(_ *gitHost, _ *gitRepository, _ *modules.Fetcher, wanted *modules.Module) {
				wanted.Version.Version = "v0.0.0-20260101220405-777777777777"
			},
			"no branch or tag has a commit 777777777777 of 2026-01-01T22:04:05Z; push it, or require another version",
		},
		"a tag that was moved": {
			func(_ *gitHost, lib *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				lib.commit(map[string]string{"lib.go": goFile + "// changed\n"})
				lib.git("tag", "--force", "v1.0.0")
			},
			"find out who changed it before you change go.sum",
		},
		"a folder that is not there": {
			func(_ *gitHost, lib *gitRepository, _ *modules.Fetcher, wanted *modules.Module) {
				lib.git("tag", "absent/v1.0.0")
				wanted.Path = "corp.example/lib/absent"
			},
			" has no absent/go.mod: it has no such module",
		},
		"a page without a tag": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) { h.pages.Clear() },
			"http://corp.example/lib?go-get=1 has no go-import tag that says where its repository is: there is nothing, or it is private: bind the workspace git-credentials to a secret whose key .git-credentials has a line for http://corp.example",
		},
		"file": {
			func(h *gitHost, lib *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib git file://localhost"+lib.dir)
			},
			"and file is not fetched by: give it an https URL there, or name a module proxy that has it in the param go-private-proxy",
		},
		"ssh": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib git ssh://git@git.corp.example/lib.git")
			},
			"http://corp.example/lib?go-get=1 says that its repository is ssh://git@git.corp.example/lib.git, and ssh is not fetched by: give it an https URL there, or name a module proxy that has it in the param go-private-proxy",
		},
		"http": {
			func(_ *gitHost, _ *gitRepository, f *modules.Fetcher, _ *modules.Module) { f.Direct.PlainHTTP = false },
			"Method Not Allowed",
		},
		"another system": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib hg http://hg.corp.example/lib")
			},
			"says that it is in a repository of hg, and only git is known here; name a module proxy that has it in the param go-private-proxy",
		},
		"a proxy": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example/lib mod http://goproxy.corp.example")
			},
			"says that the module proxy http://goproxy.corp.example has it: name that in the param go-private-proxy",
		},
		"another's modules": {
			func(h *gitHost, _ *gitRepository, _ *modules.Fetcher, _ *modules.Module) {
				h.pages.Store("corp.example/lib", "corp.example git http://git.corp.example/lib.git")
				h.pages.Store("corp.example", "corp.example git http://git.corp.example/other.git")
			},
			"http://corp.example/lib?go-get=1 and http://corp.example/?go-get=1 disagree about the repository of corp.example; mend their go-import tags",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, wanted := newGitHost(t), slices.Clone(known)
			lib := h.theRepository(t)
			f := h.fetcher(t)
			tc.set(h, lib, f, &wanted[0])
			_, err := f.Fetch(t.Context(), wanted)
			if err == nil || !strings.HasPrefix(err.Error(), "module "+wanted[0].Path+"@") || !strings.HasSuffix(err.Error(), tc.want) {
				t.Fatalf("got %v\nwant %s", err, tc.want)
			}
			if name != "http" && step.ExitCode(err) != step.ExitBadInput {
				t.Errorf("the exit code is %d, want that of bad input", step.ExitCode(err))
			}
			if strings.Contains(err.Error(), password) {
				t.Error("the error has the password")
			}
			found, globErr := filepath.Glob(filepath.Join(f.Cache, "cache/download/corp.example/lib/@v/*.zip*"))
			left, dirErr := os.ReadDir(f.Direct.Folder)
			if globErr != nil || dirErr != nil || len(found) > 0 || len(left) > 0 {
				t.Errorf("left behind: %q, %v, %v, %v", found, globErr, left, dirErr)
			}
		})
	}
}

func TestDirectIsAskedInItsPlace(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	absent := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(absent.Close)
	const fails = "http://127.0.0.1:1"
	for proxies, ok := range map[string]bool{
		"direct":                      true,
		absent.URL + ",direct":        true,
		fails + "|direct":             true,
		fails + ",direct":             false,
		absent.URL + ",off,direct":    false,
		"off":                         false,
		"direct,off":                  true,
		absent.URL + "," + absent.URL: false,
	} {
		f := h.fetcher(t)
		transport := f.Client.Transport.(*http.Transport)
		throughHost := transport.Proxy
		transport.Proxy = func(r *http.Request) (*url.URL, error) {
			if r.URL.Hostname() == "127.0.0.1" {
				return nil, nil
			}
			return throughHost(r)
		}
		f.Proxies = proxies
		if _, err := f.Fetch(t.Context(), wanted); (err == nil) != ok {
			t.Errorf("%s: %v", proxies, err)
		}
	}
	f := h.fetcher(t)
	f.Direct = nil
	if _, err := f.Fetch(t.Context(), wanted); err == nil {
		t.Error("without Direct it is fetched all the same")
	}
}

func TestDirectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	_, wanted := theModule(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	h.answer["git.corp.example"] = func(_ http.ResponseWriter, r *http.Request) {
		cancel(stopped)
		<-r.Context().Done()
	}
	if _, err := h.fetcher(t).Fetch(ctx, wanted); err == nil || !errors.Is(context.Cause(ctx), stopped) {
		t.Errorf("the error is %v", err)
	}
}

// A repository is fetched by what its path tells, without a page.
func TestDirectByPath(t *testing.T) {
	t.Parallel()
	h := newGitHost(t)
	lib, wanted := theModule(t, h)
	h.pages.Clear()
	h.answer["github.com"] = gittest.Handler(t, h.root, "").ServeHTTP
	gittest.Run(t, h.root, "clone", "--quiet", "--mirror", lib.dir, filepath.Join("team", "lib.git"))
	for _, path := range []string{"github.com/team/lib", "git.corp.example/lib.git"} {
		f := h.fetcher(t)
		one := wanted[0]
		one.Path, one.Sum = path, "" // which has the path in it
		if _, err := f.Fetch(t.Context(), []modules.Module{one}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
