package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestASourceIsATree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "of-an-earlier-source"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (source{Line: `a "new" line`, Leaf: "a new leaf"}).write(apps["medium"], dir); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"main.go":                 "\nconst banner = \"a \\\"new\\\" line\"\n",
		"internal/words/words.go": "\nconst Motto = \"a new leaf\"\n",
		"Dockerfile":              "FROM golang:alpine",
	} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content), want) {
			t.Errorf("%s has no %q", file, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "of-an-earlier-source")); err == nil {
		t.Error("a file of the source before is still there")
	}
}

// Each app must build with each module that is added to it, from what the
// machine's module cache has: go vet would take long, go list resolves all.
func TestDependenciesCanBeAdded(t *testing.T) {
	t.Parallel()
	for _, size := range appNames {
		a := apps[size]
		for i := range dependencies {
			t.Run(size+" "+dependencies[i].module, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if err := (source{Dependency: i + 1}).write(a, dir); err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), "go", "list", "-mod=readonly", "-deps", ".")
				cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if !strings.Contains(string(out), dependencies[i].module+"\n") {
					t.Error("the program does not import it")
				}
				if n := strings.Count(string(out), "\n"); size == "large" && n <= 1500 {
					t.Errorf("it is of %d packages", n)
				}
			})
		}
	}
}
