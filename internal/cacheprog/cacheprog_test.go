package cacheprog_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/slipway-ci/slipway/internal/cacheprog"
	"github.com/slipway-ci/slipway/internal/gocache"
)

// The test binary is also the program that go commands start.
func TestMain(m *testing.M) {
	if fault := os.Getenv("BE_CACHE"); fault != "" {
		if err := serve(fault); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serve(fault string) error {
	switch fault {
	case "full": // as a disk that takes no byte more
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{}); err != nil {
			return err
		}
	case "killed":
		_, _ = io.WriteString(os.Stdout, `{"KnownCommands":["get","put","close"]}`+"\n")
		_, _ = io.ReadFull(os.Stdin, make([]byte, 1))
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return cacheprog.Serve(os.Getenv("GOCACHE"), os.Args[1], os.Stdin, os.Stdout)
}

// module is three packages that need no other, b and c built upon a.
type module struct {
	dir, cache, pipe string
	account          *os.File
}

func newModule(t *testing.T) *module {
	t.Helper()
	m := &module{dir: t.TempDir(), cache: t.TempDir()}
	m.pipe = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(m.pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.account, err = os.OpenFile(m.pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.account.Close() })
	m.write(t, "go.mod", "module example.org/m\n\ngo 1.24\n")
	m.write(t, "a/a.go", "package a\n\nconst A = 1\n")
	m.write(t, "b/b.go", "package b\n\nimport \"example.org/m/a\"\n\nconst B = a.A\n")
	m.write(t, "c/c.go", "package c\n\nimport \"example.org/m/a\"\n\nconst C = a.A\n")
	return m
}

func (m *module) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *module) goBuild(t *testing.T, fault string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "GOCACHE="+m.cache, "GOFLAGS=", "GOENV=off", "BE_CACHE="+fault, "GOCACHEPROG="+program+" "+m.pipe)
	return cmd
}

func (m *module) mustBuild(t *testing.T, fault string, args ...string) {
	t.Helper()
	if out, err := m.goBuild(t, fault, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
}

// read is what the go commands that have ended said of themselves.
func (m *module) read(t *testing.T) gocache.Compiled {
	t.Helper()
	count, err := gocache.ReadCompiled(m.account)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// The account is that of go commands' own action graphs.
func TestCompiled(t *testing.T) {
	t.Parallel()
	m := newModule(t)
	graph := filepath.Join(t.TempDir(), "graph.json")
	for _, step := range []struct {
		what string
		want gocache.Compiled
	}{
		{"const A = 1", gocache.Compiled{Compiled: 3}},
		{"const A = 1", gocache.Compiled{Cached: 3}},
		{"const A = 2", gocache.Compiled{Compiled: 3}},
		{"const A = 2 // and no other code", gocache.Compiled{Compiled: 1, Cached: 2}},
	} {
		m.write(t, "a/a.go", "package a\n\n"+step.what+"\n")
		m.mustBuild(t, "none", "-trimpath", "-debug-actiongraph="+graph, "./...")
		file, err := os.Open(graph)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if own, err := gocache.ReadCompiled(file); err != nil || own != step.want {
			t.Errorf("%s: the action graph has %+v, %v, want %+v", step.what, own, err, step.want)
		}
		if got := m.read(t); got != step.want {
			t.Errorf("%s: got %+v, want %+v", step.what, got, step.want)
		}
	}
}

// What go commands keep by themselves and through the program is one cache.
func TestOneCache(t *testing.T) {
	t.Parallel()
	m := newModule(t)
	m.mustBuild(t, "none", "./a", "./b")
	m.read(t)
	graph := filepath.Join(t.TempDir(), "graph.json")
	alone := m.goBuild(t, "none", "-debug-actiongraph="+graph, "./...")
	alone.Env = append(alone.Env, "GOCACHEPROG=")
	if out, err := alone.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file, err := os.Open(graph)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, err := gocache.ReadCompiled(file); err != nil || got != (gocache.Compiled{Compiled: 1, Cached: 2}) {
		t.Errorf("after the program a go command finds %+v, %v", got, err)
	}
	m.mustBuild(t, "none", "./...")
	if got, want := m.read(t), (gocache.Compiled{Cached: 3}); got != want {
		t.Errorf("after a go command the program finds %+v, want %+v", got, want)
	}
}

func TestGoCommandsAtOnce(t *testing.T) {
	t.Parallel()
	m := newModule(t)
	for i := range 200 { // more than is written in one piece
		m.write(t, fmt.Sprintf("p%d/p.go", i), fmt.Sprintf("package p%d\n", i))
	}
	var builds sync.WaitGroup
	for range 3 {
		builds.Go(func() {
			if out, err := m.goBuild(t, "none", "./...").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	builds.Wait()
	if got, want := m.read(t), (gocache.Compiled{Compiled: 203}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWhatIsDamagedIsCompiledAgain(t *testing.T) {
	t.Parallel()
	m := newModule(t)
	m.mustBuild(t, "none", "./...")
	m.read(t)
	objects := m.objects(t)
	if len(objects) < 3 {
		t.Fatalf("the cache has %d compiled packages", len(objects))
	}
	for path, content := range objects {
		damaged := []byte(content) // of the same size, and looks like a package
		damaged[len(damaged)-1] ^= 1
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.mustBuild(t, "none", "./...")
	if got, want := m.read(t), (gocache.Compiled{Compiled: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for path, content := range m.objects(t) {
		if content != objects[path] {
			t.Errorf("%s is not as it was", path)
		}
	}
}

// objects are the compiled packages of the cache, by file.
func (m *module) objects(t *testing.T) map[string]string {
	t.Helper()
	objects := map[string]string{}
	files, err := filepath.Glob(filepath.Join(m.cache, "*", "*-d"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(content), "!<arch>\n") {
			objects[file] = string(content)
		}
	}
	return objects
}

func TestABuildGoesOn(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(t *testing.T, m *module) (fault string){
		"the cache is full": func(*testing.T, *module) string { return "full" },
		"nobody reads the pipe": func(t *testing.T, m *module) string {
			if err := m.account.Close(); err != nil {
				t.Fatal(err)
			}
			return "none"
		},
		"there is no pipe": func(t *testing.T, m *module) string {
			if err := os.Remove(m.pipe); err != nil {
				t.Fatal(err)
			}
			return "none"
		},
		"a file is in the pipe's place": func(t *testing.T, m *module) string {
			if err := os.Remove(m.pipe); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(m.pipe, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return "none"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newModule(t)
			fault := breakIt(t, m)
			m.mustBuild(t, fault, "./...")
			if kept := len(m.objects(t)); (fault == "full") != (kept == 0) {
				t.Errorf("the cache has %d compiled packages", kept)
			}
		})
	}
}

// Why the program is the last resort: no program can do anything about this.
func TestGoFailsWhenItsProgramIsKilled(t *testing.T) {
	t.Parallel()
	m := newModule(t)
	out, err := m.goBuild(t, "killed", "./...").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "GOCACHEPROG") {
		t.Errorf("got %v: %s", err, out)
	}
}
