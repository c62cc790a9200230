// Package parts builds the programs that a test cluster consists of from
// pinned Go modules. Each folder beside this file is one part: a module of its
// own, since their dependencies clash. What is built is kept, so that neither a
// second run nor a second clone builds it again.
package parts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/sys/unix"
)

// Names lists the parts, the one that takes longest to build first.
var Names = []string{"kubernetes", "tekton", "athens", "coredns", "provisioner", "registry", "kaniko", "ko", "triggers"}

// Contenders lists the parts that only the benchmarks use, beside what the
// cluster has.
var Contenders = []string{"skaffold"}

// Oracles lists the parts that only tests use, to ask what is right:
// test/docker has BuildKit build what Slipway builds.
var Oracles = []string{"buildkit"}

// all lists every part.
func all() []string { return slices.Concat(Names, Contenders, Oracles) }

// CacheDir is where everything lives that is worth keeping between runs and
// clones: $XDG_CACHE_HOME/slipway, by default ~/.cache/slipway.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "slipway"), nil
}

// Dir is the folder of the part's programs. It exists once the part is built.
func Dir(name string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	key, err := Key(name)
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "parts", name+"-"+key), nil
}

// source is the folder of the part's sources, beside this file. This package is
// only ever used from a checkout, by go run and go test.
func source(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), name)
}

// Key identifies what the part is built from: its sources (go.mod, go.sum and,
// where it has one, main.go), the Go version and the platform.
func Key(name string) (string, error) {
	if !slices.Contains(all(), name) {
		return "", fmt.Errorf("no part is called %q; the parts are %s", name, strings.Join(all(), ", "))
	}
	files, err := os.ReadDir(source(name))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	flags, err := buildFlags(name)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, flags)
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(source(name), file.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, file.Name(), len(content))
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// versions are the variables, by part, that the linker sets to the version of a
// module, because the program's own build does so and its clients ask for it:
// Tekton refuses a Kubernetes that does not know its version.
var versions = map[string]struct {
	module    string
	variables []string
}{
	"kubernetes": {"k8s.io/kubernetes", []string{"k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"}},
	"kaniko":     {"github.com/osscontainertools/kaniko", []string{"github.com/osscontainertools/kaniko/pkg/version.version"}},
	"skaffold":   {"github.com/GoogleContainerTools/skaffold/v2", []string{"github.com/GoogleContainerTools/skaffold/v2/pkg/skaffold/version.version"}},
}

func buildFlags(name string) ([]string, error) {
	ldflags := "-s -w"
	if v, ok := versions[name]; ok {
		file := filepath.Join(source(name), "go.mod")
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		mod, err := modfile.Parse(file, content, nil)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(mod.Require, func(r *modfile.Require) bool { return r.Mod.Path == v.module })
		if at < 0 {
			return nil, fmt.Errorf("%s does not require %s", file, v.module)
		}
		for _, variable := range v.variables {
			ldflags += " -X " + variable + "=" + mod.Require[at].Mod.Version
		}
	}
	return []string{"-trimpath", "-ldflags=" + ldflags}, nil
}

// Built says whether the part needs no building any more.
func Built(name string) bool {
	dir, err := Dir(name)
	if err != nil {
		return false
	}
	_, err = os.Stat(dir)
	return err == nil
}

// Ensure builds the part unless that was done before, with the go command's
// own output to logFile, and returns the folder of its programs. Two that want
// the same part at the same time build it once.
func Ensure(ctx context.Context, name, logFile string) (string, error) {
	dir, err := Dir(name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unfinished := dir + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return "", err
	}
	output, err := os.Create(logFile)
	if err != nil {
		return "", err
	}
	defer output.Close()
	what := "tool"
	if _, err := os.Stat(filepath.Join(source(name), "main.go")); err == nil {
		what = "."
	}
	flags, err := buildFlags(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-o", unfinished + "/"}, flags, []string{what})...)
	cmd.Dir = source(name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build part %s: %w; see %s", name, err, logFile)
	}
	return dir, os.Rename(unfinished, dir)
}
