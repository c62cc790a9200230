package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/slipway-ci/slipway/test/cluster"
)

// app is something to build, as the seed describes it: a Dockerfile of the
// final form, Dockerfile.baseline, and a kustomize base. It answers at
// /api/items with the banner of its main.go.
type app struct {
	name string // of the app, its Deployment, its Service and its image in the manifests
	dir  string // from the repository's root
	// files are what its image has beside the program, by their path inside:
	// for contenders that read no Dockerfile.
	files map[string]string
	// leaf is a file with a constant Motto, in a package that most others
	// import; "" if there is none.
	leaf string
}

var apps = map[string]app{
	"small":  {name: "feed-agg", dir: "examples/feed-agg", files: map[string]string{"/etc/feed-agg/conf.yaml": "conf.yaml"}},
	"medium": {name: "pod-board", dir: "test/bench/apps/medium", leaf: "internal/words/words.go"},
	"large":  {name: "run-board", dir: "test/bench/apps/large"},
}

// appNames orders them by size.
var appNames = []string{"small", "medium", "large"}

// requiredApps are run unless APP says otherwise.
var requiredApps = []string{"small", "medium"}

// source is a state of an app's source. The same source is the same tree,
// whoever builds it.
type source struct {
	Line string `json:"line,omitempty"` // the banner in main.go
	Leaf string `json:"leaf,omitempty"` // the constant in the leaf package
	// Dependency is the number of a module that was added, from 1; 0 is none.
	Dependency int `json:"dependency,omitempty"`
	// Go is the version that the base image has, if it is another than usual.
	Go string `json:"go,omitempty"`
	// Module is the name of the app's module, if it is another than its own.
	Module string `json:"module,omitempty"`
}

// dependency is a module that an app can add.
type dependency struct {
	module, version string    // its root is a package
	sums            [2]string // of its content and of its go.mod
}

// dependencies need no other module than the apps have. All are among this
// repository's own requirements, so that the machine's module cache has them.
var dependencies = []dependency{
	{"github.com/docker/go-units", "v0.5.0", [2]string{"h1:69rxXcBk27SvSaaxTtLh/8llcHD8vYHT7WSdRZ/jvr4=", "h1:fgPhTUdO+D/Jk86RDLlptpiXQzgHJF7gydDDbaIK4Dk="}},
	{"github.com/pkg/errors", "v0.9.1", [2]string{"h1:FEBLx1zS214owpjy7qsBeixbURkuhQAwrK5UwLGTwt4=", "h1:bwawxfHBFNV+L2hUp1rHADufV3IMtnDRdf1r5NINEl0="}},
	{"github.com/moby/patternmatcher", "v0.6.1", [2]string{"h1:qlhtafmr6kgMIJjKJMDmMWq7WLkKIo23hsrpR3x084U=", "h1:hDPoyOpDY7OrrMDLaYoY3hf52gNCR/YOUYxkhApJIxc="}},
	{"github.com/sethvargo/go-envconfig", "v1.4.3", [2]string{"h1:9RJrW9aiy3SJVRJ1svntpZvBw3ghj941u/BseS/TokY=", "h1:ebe6rgj7KzrRZPzDXU4W6WZWDEirQwvcgmS0bmC3Sjg="}},
}

var (
	bannerLine = regexp.MustCompile(`(?m)^const banner = ".*"$`)
	golangLine = regexp.MustCompile(`(?m)^FROM golang:alpine AS build$`)
	moduleLine = regexp.MustCompile(`(?m)^module .*$`)
	mottoLine  = regexp.MustCompile(`(?m)^const Motto = ".*"$`)
)

// write makes the source's tree in dir, and leaves nothing else there but .git.
func (s source) write(a app, dir string) error {
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range old {
		if entry.Name() == ".git" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(cluster.Root(), a.dir))); err != nil {
		return err
	}
	if s.Line != "" {
		if err := replaceLine(filepath.Join(dir, "main.go"), bannerLine, fmt.Sprintf("const banner = %q", s.Line)); err != nil {
			return err
		}
	}
	if s.Leaf != "" {
		if err := replaceLine(filepath.Join(dir, a.leaf), mottoLine, fmt.Sprintf("const Motto = %q", s.Leaf)); err != nil {
			return err
		}
	}
	if s.Go != "" {
		for _, file := range []string{"Dockerfile", "Dockerfile.baseline"} {
			if err := replaceLine(filepath.Join(dir, file), golangLine, "FROM golang:"+s.Go+"-alpine AS build"); err != nil {
				return err
			}
		}
	}
	if s.Module != "" {
		if err := replaceLine(filepath.Join(dir, "go.mod"), moduleLine, "module "+s.Module); err != nil {
			return err
		}
	}
	if s.Dependency != 0 {
		return dependencies[s.Dependency-1].add(dir)
	}
	return nil
}

// add makes the app in dir need the module.
func (d dependency) add(dir string) error {
	for file, addition := range map[string]string{
		"go.mod": fmt.Sprintf("\nrequire %s %s\n", d.module, d.version),
		"go.sum": fmt.Sprintf("%[1]s %[2]s %[3]s\n%[1]s %[2]s/go.mod %[4]s\n", d.module, d.version, d.sums[0], d.sums[1]),
	} {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(addition)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "added.go"), fmt.Appendf(nil, "package main\n\nimport _ %q\n", d.module), 0o644)
}

// answer is what the app must say of the source it was built from.
func (s source) answer() []string {
	var words []string
	for _, word := range []string{s.Line, s.Leaf} {
		if word != "" {
			words = append(words, word)
		}
	}
	return words
}

// replaceLine changes the one line that matches.
func replaceLine(file string, line *regexp.Regexp, with string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if n := len(line.FindAll(content, -1)); n != 1 {
		return fmt.Errorf("change %s: %d lines match %s, not one", file, n, line)
	}
	return os.WriteFile(file, line.ReplaceAllLiteral(content, []byte(with)), 0o644)
}
