package git_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/git"
)

// clone is a repository that the git command works on, whose word counts.
type clone struct {
	t    *testing.T
	dir  string
	time int // of the next commit or tag, in seconds
}

func newClone(t *testing.T) *clone {
	t.Helper()
	c := &clone{t: t, dir: t.TempDir(), time: 1_700_000_000}
	c.git("init", "-q", "-b", "main")
	return c
}

func (c *clone) git(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return out
}

func (c *clone) try(args ...string) (string, error) {
	c.time++
	date := fmt.Sprintf("%d +0000", c.time)
	cmd := exec.CommandContext(c.t.Context(), "git", args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example",
		"GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c *clone) write(name, content string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clone) commit(name, content string) {
	c.t.Helper()
	c.write(name, content)
	c.git("add", "-A")
	c.git("commit", "-q", "--allow-empty", "-m", "x")
}

// check holds everything said of a folder against the git command.
func (c *clone) check(folder string) {
	c.t.Helper()
	r := open(c.t, c.dir, folder)
	in := func(args ...string) string {
		return c.git(append([]string{"-C", filepath.Join(c.dir, folder)}, args...)...)
	}
	commit, err := r.Commit()
	c.same("commit", commit, err, in("rev-list", "-1", "HEAD"))
	short, err := r.Abbreviate(commit)
	c.same("abbreviated commit", short, err, in("rev-list", "-1", "HEAD", "--abbrev-commit"))
	tree, err := r.Tree()
	c.same("tree", tree, err, in("rev-parse", "HEAD:./"))
	description, err := r.Describe()
	c.same("description", description, err, in("describe", "--tags", "--always"))
	changed, err := r.Changed()
	status := in("status", ".", "--porcelain")
	if err != nil || changed != (status != "") {
		c.t.Errorf("changed in %q: %v, %v, but git says:\n%s", folder, changed, err, status)
	}
}

func (c *clone) same(what, got string, err error, want string) {
	c.t.Helper()
	if err != nil || got != want {
		c.t.Errorf("%s: got %q, %v, git says %q", what, got, err, want)
	}
}

func TestAsGitSays(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]func(*clone){
		"no tag":                       func(*clone) {},
		"a tag":                        func(c *clone) { c.git("tag", "v1") },
		"a tag with a slash":           func(c *clone) { c.git("tag", "v/1") },
		"lightweight tags, by name":    func(c *clone) { c.git("tag", "v2"); c.git("tag", "v1") },
		"annotated before lightweight": func(c *clone) { c.git("tag", "v1"); c.git("tag", "-am", "x", "v2") },
		"annotated tags, the newest":   func(c *clone) { c.git("tag", "-am", "x", "v2"); c.git("tag", "-am", "x", "v1") },
		"a tag of a tag":               func(c *clone) { c.git("tag", "-am", "x", "v1"); c.git("tag", "-am", "x", "v2", "v1") },
		"a tag before":                 func(c *clone) { c.git("tag", "v1"); c.commit("a", "2"); c.commit("a", "3") },
		"the nearest tag is not the newest": func(c *clone) {
			c.git("checkout", "-q", "-b", "side")
			for i := range 3 {
				c.commit("side", fmt.Sprint(i))
			}
			c.git("tag", "nearest")
			c.git("checkout", "-q", "main")
			c.commit("a", "2")
			c.git("tag", "newest")
			for i := range 5 {
				c.commit("a", fmt.Sprint("x", i))
			}
			c.git("merge", "-q", "-m", "x", "side")
		},
		"packed":   func(c *clone) { c.git("tag", "-am", "x", "v1"); c.commit("a", "2"); c.git("gc", "-q") },
		"detached": func(c *clone) { c.git("checkout", "-q", "--detach") },
		"changed, of one size": func(c *clone) {
			c.write("app/b", "2")
		},
		"touched":         func(c *clone) { touch(c, "a") },
		"deleted":         func(c *clone) { remove(c, "a") },
		"untracked":       func(c *clone) { c.write("app/new/file", "") },
		"an empty folder": func(c *clone) { mkdir(c, "app/empty") },
		"ignored":         func(c *clone) { c.commit(".gitignore", "*.o\n/out/\n"); c.write("x.o", ""); c.write("out/x", "") },
		"ignored but for one": func(c *clone) {
			c.commit(".gitignore", "out/*\n!out/keep\n")
			c.write("out/keep", "")
		},
		"excluded":     func(c *clone) { c.write(".git/info/exclude", "*.o\n"); c.write("x.o", "") },
		"staged":       func(c *clone) { c.write("a", "2"); c.git("add", "a") },
		"staged anew":  func(c *clone) { c.write("a", "2"); c.git("add", "a"); c.write("a", "1") },
		"removed":      func(c *clone) { c.git("rm", "-q", "--cached", "a") },
		"executable":   func(c *clone) { chmod(c, "a", 0o755) },
		"a link":       func(c *clone) { link(c, "a", "l"); c.commit("b", "") },
		"another link": func(c *clone) { link(c, "a", "l"); c.commit("b", ""); remove(c, "l"); link(c, "b", "l") },
		"a link for a file": func(c *clone) {
			remove(c, "a")
			link(c, "app/b", "a")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClone(t)
			c.write("app/b", "1")
			c.commit("a", "1")
			history(c)
			c.check("")
			c.check("app")
		})
	}
}

// Histories with merges and tags at random.
func TestDescribeAsGitDoes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // repeatable
			c := newClone(t)
			c.commit("a", "0")
			branches := 1
			for i := range 25 {
				switch random.IntN(5) {
				case 0:
					c.git("checkout", "-q", "-b", fmt.Sprint("b", branches))
					branches++
				case 1:
					if branches > 1 {
						_, _ = c.try("merge", "-q", "-s", "ours", "-m", "x", fmt.Sprint("b", 1+random.IntN(branches-1)))
					}
				case 2:
					c.git("tag", fmt.Sprint("t", i))
				case 3:
					c.git("tag", "-am", "x", fmt.Sprint("a", random.IntN(1000), "-", i))
				}
				c.commit("a", fmt.Sprint(i))
			}
			if seed%2 == 0 {
				c.git("gc", "-q")
			}
			c.check("")
		})
	}
}

func TestShallowClone(t *testing.T) {
	t.Parallel()
	origin := newClone(t)
	origin.commit("a", "1")
	origin.git("tag", "v1")
	for i := range 5 {
		origin.commit("a", fmt.Sprint("x", i))
	}
	for _, depth := range []string{"1", "3", "9"} {
		c := &clone{t: t, dir: t.TempDir(), time: origin.time}
		c.git("clone", "-q", "--depth", depth, "file://"+origin.dir, ".")
		c.check("")
	}
}

func TestBranch(t *testing.T) {
	t.Parallel()
	c := newClone(t)
	c.commit("a", "1")
	c.git("checkout", "-q", "-b", "feature/x")
	if got, err := open(t, c.dir, "").Branch(); err != nil || got != "feature/x" {
		t.Errorf("got %q, %v", got, err)
	}
	c.git("checkout", "-q", "--detach")
	if got, err := open(t, c.dir, "").Branch(); err == nil {
		t.Errorf("without a branch: got %q", got)
	}
}

// A clone need not be at the root of the source, and nothing above that is read.
func TestOpenLooksUpToTheRoot(t *testing.T) {
	t.Parallel()
	c := newClone(t)
	c.commit("app/cmd/main.go", "1")
	c.commit("other/x", "1")
	c.check("app/cmd")
	for root, folder := range map[string]string{
		filepath.Join(c.dir, "app"): "cmd",
		t.TempDir():                 ".",
	} {
		if _, err := git.Open(root, folder); !errors.Is(err, git.ErrNone) {
			t.Errorf("%s: got %v", root, err)
		}
	}
}

func TestWhatIsNoClone(t *testing.T) {
	t.Parallel()
	file, empty := t.TempDir(), newClone(t)
	if err := os.WriteFile(filepath.Join(file, ".git"), []byte("gitdir: /elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := git.Open(file, "."); err == nil || !strings.HasSuffix(err.Error(), "is not read") {
		t.Errorf("a .git that leads elsewhere: got %v", err)
	}
	if _, err := open(t, empty.dir, "").Commit(); err == nil || err.Error() != "the clone has no commit" {
		t.Errorf("without a commit: got %v", err)
	}
}

// Objects that are missing or damaged are an error and no panic.
func TestDamagedClone(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(content []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"cut short": func(content []byte) []byte { return content[:len(content)/2] },
		"noise":     func(content []byte) []byte { return append([]byte("noise"), content...) },
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, packed), func(t *testing.T) {
				t.Parallel()
				c := newClone(t)
				c.commit("a", "1")
				c.git("tag", "-am", "x", "v1")
				c.commit("a", "2")
				if packed {
					c.git("gc", "-q")
				}
				err := filepath.WalkDir(filepath.Join(c.dir, ".git", "objects"), func(path string, entry os.DirEntry, err error) error {
					if err != nil || entry.IsDir() {
						return err
					}
					content, err := os.ReadFile(path)
					if err != nil {
						return err
					}
					return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, damage(content), 0o600))
				})
				if err != nil {
					t.Fatal(err)
				}
				r := open(t, c.dir, "")
				if got, err := r.Describe(); err == nil {
					t.Errorf("describe: got %q", got)
				}
				if got, err := r.Tree(); err == nil {
					t.Errorf("tree: got %q", got)
				}
			})
		}
	}
}

func open(t *testing.T, root, folder string) *git.Repository {
	t.Helper()
	r, err := git.Open(root, folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func touch(c *clone, name string) {
	content, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(name, string(content))
}

func remove(c *clone, name string)               { must(c, os.Remove(filepath.Join(c.dir, name))) }
func mkdir(c *clone, name string)                { must(c, os.MkdirAll(filepath.Join(c.dir, name), 0o755)) }
func link(c *clone, target, name string)         { must(c, os.Symlink(target, filepath.Join(c.dir, name))) }
func chmod(c *clone, name string, m os.FileMode) { must(c, os.Chmod(filepath.Join(c.dir, name), m)) }

func must(c *clone, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}
