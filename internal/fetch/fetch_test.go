package fetch

import (
	"bytes"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/git/gittest"
	"github.com/slipway-ci/slipway/internal/step"
)

// server is a git host with the repositories of a folder.
func server(t *testing.T, root, password string) string {
	t.Helper()
	host := httptest.NewServer(gittest.Handler(t, root, password))
	t.Cleanup(host.Close)
	return host.URL
}

// newRepository makes root/app.git with two commits on main, an annotated tag of
// the first, and returns both commits.
func newRepository(t *testing.T, root string) (first, second string) {
	t.Helper()
	dir := filepath.Join(root, "app.git")
	gittest.Run(t, root, "init", "--quiet", "--initial-branch=main", dir)
	write(t, filepath.Join(dir, "version"), "first")
	gittest.Run(t, dir, "add", ".")
	gittest.Run(t, dir, "commit", "--quiet", "--message=first")
	gittest.Run(t, dir, "tag", "--annotate", "--message=one", "v1")
	first = gittest.Run(t, dir, "rev-parse", "HEAD")
	write(t, filepath.Join(dir, "version"), "second")
	gittest.Run(t, dir, "commit", "--quiet", "--all", "--message=second")
	return first, gittest.Run(t, dir, "rev-parse", "HEAD")
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// fetchInto runs the step, and returns the result and its log.
func fetchInto(t *testing.T, output string, env map[string]string) (commit, log string, err error) {
	t.Helper()
	result := filepath.Join(t.TempDir(), "commit")
	all := map[string]string{"WORKSPACE_OUTPUT_PATH": output, "RESULT_COMMIT_PATH": result, "PARAM_DEPTH": "1", "PARAM_SUBMODULES": "true"}
	for name, value := range env {
		all[name] = value
	}
	var out bytes.Buffer
	err = Run(t.Context(), envconfig.MapLookuper(all), &out)
	if err == nil {
		commit = read(t, result)
	}
	return commit, out.String(), err
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	first, second := newRepository(t, root)
	host := server(t, root, "")
	for name, test := range map[string]struct {
		revision, depth, want, content string
	}{
		"HEAD":         {"", "1", second, "second"},
		"branch":       {"main", "1", second, "second"},
		"whole ref":    {"refs/heads/main", "1", second, "second"},
		"tag":          {"v1", "1", first, "first"},
		"commit":       {first, "1", first, "first"},
		"all commits":  {"main", "0", second, "second"},
		"all of a tag": {"refs/tags/v1", "0", first, "first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output := t.TempDir()
			write(t, filepath.Join(output, "left by another"), "")
			if err := os.Symlink("/etc", filepath.Join(output, ".git")); err != nil {
				t.Fatal(err)
			}
			commit, log, err := fetchInto(t, output, map[string]string{"PARAM_URL": host + "/app.git", "PARAM_REVISION": test.revision, "PARAM_DEPTH": test.depth})
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			if commit != test.want {
				t.Errorf("the result is %s, want %s", commit, test.want)
			}
			if got := read(t, filepath.Join(output, "version")); got != test.content {
				t.Errorf("the file has %q, want %q", got, test.content)
			}
			if got := gittest.Run(t, output, "status", "--porcelain"); got != "" {
				t.Errorf("git sees changes: %s", got)
			}
			if got := gittest.Run(t, output, "rev-parse", "HEAD"); got != test.want {
				t.Errorf("git is at %s, want %s", got, test.want)
			}
			if test.depth == "0" && commit == second {
				if got := gittest.Run(t, output, "rev-list", "--count", "HEAD"); got != "2" {
					t.Errorf("the clone has %s commits, want 2", got)
				}
				gittest.Run(t, output, "rev-parse", "--verify", "refs/tags/v1")
			}
		})
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	newRepository(t, root)
	gittest.Run(t, root, "init", "--quiet", "--bare", "empty.git")
	host := server(t, root, "")
	for name, test := range map[string]struct {
		url, revision, want string
	}{
		"branch":     {host + "/app.git", "release", `no branch or tag "release" (param revision)`},
		"commit":     {host + "/app.git", strings.Repeat("7", 40), "param revision"},
		"repository": {host + "/other.git", "", "param url, repo-url"},
		"commits":    {host + "/empty.git", "", "push a commit first"},
		"ssh":        {"git@example.com:app.git", "", "param url"},
		"file":       {"file://" + root + "/app.git", "", "of http or https"},
		"password":   {"https://me:hidden@example.com/app.git", "", "workspace basic-auth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, log, err := fetchInto(t, t.TempDir(), map[string]string{"PARAM_URL": test.url, "PARAM_REVISION": test.revision})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("the error is %v, want one with %q\n%s", err, test.want, log)
			}
			if step.ExitCode(err) != step.ExitBadInput {
				t.Errorf("the exit code is %d, want that of bad input", step.ExitCode(err))
			}
			if strings.Contains(err.Error()+log, "hidden") {
				t.Errorf("the password is told: %v\n%s", err, log)
			}
		})
	}
}

func TestLogins(t *testing.T) {
	t.Parallel()
	const password = "open-sesame"
	root, more := t.TempDir(), t.TempDir()
	_, commit := newRepository(t, root)
	newRepository(t, more)
	host, other := server(t, root, password), server(t, more, "")
	address, err := url.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		credentials, url, want string
	}{
		"its own":         {"# ours\nhttps://me:no@example.com\nhttp://me:" + password + "@" + address.Host + "\n", host, ""},
		"another's":       {"http://me:" + password + "@example.com\n", host, "has no login for it"},
		"another scheme":  {"https://me:" + password + "@" + address.Host + "\n", host, "has no login for it"},
		"wrong":           {"http://me:" + password + "x@" + address.Host + "\n", host, "has no login for it"},
		"not needed":      {"http://me:" + password + "@" + address.Host + "\n", other, ""},
		"no line of ours": {"machine example.com login me password " + password, host, "line 1 of .git-credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, workspace := t.TempDir(), t.TempDir()
			write(t, filepath.Join(workspace, ".git-credentials"), test.credentials)
			got, log, err := fetchInto(t, output, map[string]string{"PARAM_URL": test.url + "/app.git", "PARAM_REVISION": "main", "WORKSPACE_BASIC_AUTH_PATH": workspace})
			switch {
			case test.want == "" && err != nil:
				t.Fatalf("%v\n%s", err, log)
			case test.want == "" && test.url == host && got != commit:
				t.Errorf("the result is %s, want %s", got, commit)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || step.ExitCode(err) != step.ExitBadInput):
				t.Fatalf("the error is %v, want bad input with %q", err, test.want)
			}
			if err != nil {
				log += err.Error()
			}
			if strings.Contains(log, password) {
				t.Errorf("the password is told:\n%s", log)
			}
			if _, err := exec.CommandContext(t.Context(), "grep", "--recursive", "--quiet", password, output).Output(); err == nil {
				t.Error("the password is in the clone")
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		if _, _, err := fetchInto(t, t.TempDir(), map[string]string{"PARAM_URL": host + "/app.git"}); err == nil || !strings.Contains(err.Error(), "needs the workspace basic-auth (git-credentials of the pipeline)") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		workspace := t.TempDir()
		write(t, filepath.Join(workspace, ".gitconfig"), "")
		if _, _, err := fetchInto(t, t.TempDir(), map[string]string{"PARAM_URL": host + "/app.git", "WORKSPACE_BASIC_AUTH_PATH": workspace}); err == nil || !strings.Contains(err.Error(), "needs a key of that name") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("an optional secret that is not there", func(t *testing.T) {
		t.Parallel()
		if _, log, err := fetchInto(t, t.TempDir(), map[string]string{"PARAM_URL": other + "/app.git", "WORKSPACE_BASIC_AUTH_PATH": t.TempDir()}); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
	})
}

// A submodule's host gets its own login and no other's, and a repository's
// content does not choose what else is fetched by.
func TestSubmodules(t *testing.T) {
	t.Parallel()
	const password = "open-sesame"
	root, private := t.TempDir(), t.TempDir()
	newRepository(t, root)
	_, inner := newRepository(t, private)
	app, secret := server(t, root, ""), server(t, private, password)
	dir := filepath.Join(root, "app.git")
	pin := func(branch, address string) {
		t.Helper()
		gittest.Run(t, dir, "checkout", "--quiet", "-B", branch, "v1")
		write(t, filepath.Join(dir, ".gitmodules"), "[submodule \"lib\"]\n\tpath = lib\n\turl = "+address+"\n")
		gittest.Run(t, dir, "add", ".gitmodules")
		gittest.Run(t, dir, "update-index", "--add", "--cacheinfo", "160000,"+inner+",lib")
		gittest.Run(t, dir, "commit", "--quiet", "--message="+branch)
	}
	pin("elsewhere", secret+"/app.git")
	pin("program", "ext::touch /tmp/owned")
	pin("file", "file://"+private+"/app.git")
	host, err := url.Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	workspace := t.TempDir()
	write(t, filepath.Join(workspace, ".git-credentials"), "http://me:"+password+"@"+host.Host+"\n")

	output := t.TempDir()
	if _, log, err := fetchInto(t, output, map[string]string{"PARAM_URL": app + "/app.git", "PARAM_REVISION": "elsewhere", "WORKSPACE_BASIC_AUTH_PATH": workspace}); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if got := read(t, filepath.Join(output, "lib", "version")); got != "second" {
		t.Errorf("the submodule has %q, want %q", got, "second")
	}
	for _, branch := range []string{"program", "file"} {
		if _, _, err := fetchInto(t, t.TempDir(), map[string]string{"PARAM_URL": app + "/app.git", "PARAM_REVISION": branch}); err == nil || !strings.Contains(err.Error(), "submodule lib: ") || step.ExitCode(err) != step.ExitBadInput {
			t.Errorf("%s: the error is %v, want bad input", branch, err)
		}
	}
	if _, _, err := fetchInto(t, t.TempDir(), map[string]string{"PARAM_URL": app + "/app.git", "PARAM_REVISION": "program", "PARAM_SUBMODULES": "false"}); err != nil {
		t.Errorf("without submodules: %v", err)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	const parent = "https://git.example.com/group/app.git"
	for address, want := range map[string]string{
		"https://git.example.com/lib.git": "https://git.example.com/lib.git",
		"../lib.git":                      "https://git.example.com/group/lib.git",
		"./lib.git":                       parent + "/lib.git",
		"../../../../lib.git":             "https://git.example.com/lib.git",
	} {
		if got, err := resolve(parent, address); err != nil || got != want {
			t.Errorf("resolve(%q) = %q, %v, want %q", address, got, err, want)
		}
	}
}
