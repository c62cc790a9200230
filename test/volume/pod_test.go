package volume

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/test/cluster/parts"
)

// site is what the pods of builds have around them: a registry with base
// images, and the programs of the steps.
type site struct {
	root     string
	registry string
	programs string // prepare and push
	kaniko   string // its executor
	proxy    string // a folder, of modules
	goSum    string // of the library that sources need
	task     tekton.Task
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{root: t.TempDir()}
	server := httptest.NewServer(registry.New(registry.Logger(stdlog.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	s.registry = strings.TrimPrefix(server.URL, "http://")
	s.proxy = s.mkdir(t, "proxy")
	s.goSum = publish(t, s.proxy, "v1.0.0", []byte("some data"))
	s.programs = s.mkdir(t, "programs")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.programs, "../../cmd/prepare", "../../cmd/push")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	kaniko, err := parts.Ensure(t.Context(), "kaniko", filepath.Join(s.root, "kaniko.log"))
	if err != nil {
		t.Fatal(err)
	}
	s.kaniko = filepath.Join(kaniko, "executor")
	content, err := os.ReadFile("../../tasks/build.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, &s.task); err != nil {
		t.Fatal(err)
	}
	s.pushBases(t)
	return s
}

func (s *site) mkdir(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(s.root, dir)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// pushBases makes stand-ins for golang:alpine, with this machine's Go, and for
// distroless's static image.
func (s *site) pushBases(t *testing.T) {
	t.Helper()
	shell := layer(t, func(archive *tar.Writer) error {
		busybox, err := os.ReadFile("/bin/busybox")
		if err != nil {
			return fmt.Errorf("%w: install the package busybox-static", err)
		}
		for _, dir := range []string{"bin", "etc", "root", "tmp", "usr", "usr/local"} {
			if err := archive.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		if err := archive.WriteHeader(&tar.Header{Name: "bin/sh", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(busybox))}); err != nil {
			return err
		}
		_, err = archive.Write(busybox)
		return err
	})
	toolchain := layer(t, func(archive *tar.Writer) error { return addGo(archive, runtime.GOROOT()) }) //nolint:staticcheck // tests run where Go is
	s.push(t, "library/golang:alpine", shell, toolchain)
	s.push(t, "distroless/static:latest", layer(t, func(archive *tar.Writer) error {
		return archive.WriteHeader(&tar.Header{Name: "etc", Typeflag: tar.TypeDir, Mode: 0o755})
	}))
}

func layer(t *testing.T, write func(*tar.Writer) error) v1.Layer {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	if err := write(archive); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// addGo adds what it takes to build of a Go to an archive.
func addGo(archive *tar.Writer, goroot string) error {
	return filepath.WalkDir(goroot, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest := strings.TrimPrefix(strings.TrimPrefix(path, goroot), "/")
		top, _, _ := strings.Cut(rest, "/")
		switch {
		case rest == "src/cmd" || top == "test" || top == "api" || top == "doc" || top == "misc" || entry.IsDir() && entry.Name() == "testdata":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case strings.HasSuffix(path, "_test.go"):
			return nil
		}
		info, err := os.Stat(path) // a Debian GOROOT has links
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		*header = tar.Header{Name: filepath.Join("usr/local/go", rest), Typeflag: header.Typeflag, Mode: header.Mode, Size: header.Size}
		if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = archive.Write(content)
		return err
	})
}

func (s *site) push(t *testing.T, image string, layers ...v1.Layer) {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{Env: []string{"PATH=/usr/local/go/bin:/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(s.registry + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// pod is one run of the Task slipway-build: the volumes that end with it.
type pod struct {
	*site
	dir    string
	source string
	volume string // the claim; "" for none
	size   string // the param cache-size
	log    bytes.Buffer
}

func (s *site) newPod(t *testing.T, source, volume string) *pod {
	t.Helper()
	dir := t.TempDir()
	p := &pod{site: s, dir: dir, source: source, volume: volume, size: "10Gi"}
	for _, name := range []string{"root", "prepared", "built", "secrets", "logins", "results", "none"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *pod) path(name string) string { return filepath.Join(p.dir, name) }

// steps are the names of a build's steps, in their order.
var steps = []string{"prepare", "build", "push"}

// step is a step's container, with what tasks/build.yaml mounts into it.
func (p *pod) step(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	c := container{Root: p.path("root"), Env: []string{"HOME=/root"}}
	volumes := func(toolchains string) {
		c.Mounts = append(c.Mounts, mount{p.source, "/workspace/source", true})
		if p.volume == "" {
			return
		}
		c.Mounts = append(c.Mounts, mount{p.volume, "/workspace/cache", false})
		if err := os.MkdirAll(filepath.Join(p.volume, "toolchains"), 0o777); err != nil { // kubelet makes a subPath
			t.Fatal(err)
		}
		c.Mounts = append(c.Mounts, mount{filepath.Join(p.volume, "toolchains"), "/workspace/toolchains", true})
		if toolchains != "" {
			c.Mounts = append(c.Mounts, mount{toolchains, "/workspace/cache/toolchains", true})
		}
	}
	switch name {
	case "prepare":
		volumes("")
		c.Mounts = append(c.Mounts, mount{p.path("prepared"), "/slipway", false}, mount{p.path("built"), "/slipway-built", false},
			mount{p.path("secrets"), "/slipway-secrets", false}, mount{p.path("logins"), "/slipway-logins", false}, mount{filepath.Join(p.programs, "prepare"), "/ko-app/prepare", true})
	case "build":
		volumes(p.path("none"))
		c.alone = true
		c.Env = append(c.Env, "PATH=/kaniko", "USER=root") // of kaniko's image
		c.Mounts = append(c.Mounts, mount{p.path("prepared"), "/slipway", true}, mount{p.path("built"), "/slipway-built", false},
			mount{p.path("secrets"), "/slipway-secrets", true}, mount{p.kaniko, "/kaniko/executor", true}, mount{p.proxy, "/proxy", true})
	case "push":
		c.Mounts = append(c.Mounts, mount{p.path("prepared"), "/slipway", true}, mount{p.path("built"), "/slipway-built", true},
			mount{p.path("logins"), "/slipway-logins", false}, mount{filepath.Join(p.programs, "push"), "/ko-app/push", true}, mount{p.path("results"), "/results", false})
	}
	for _, step := range p.task.Spec.Steps {
		if step.Name != name {
			continue
		}
		c.Command = step.Command
		for _, arg := range step.Args {
			c.Command = append(c.Command, p.expand(arg)...)
		}
		for _, variable := range step.Env {
			c.Env = append(c.Env, variable.Name+"="+strings.Join(p.expand(variable.Value), ""))
		}
	}
	cmd := c.command(t)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	return cmd
}

// variable is what Tekton replaces in a step.
var variable = regexp.MustCompile(`\$\((params|workspaces|results)\.([a-zA-Z-_]+)(\.path|\[\*\])?\)`)

// expand is what Tekton makes of an argument or a value: several of an array.
func (p *pod) expand(text string) []string {
	given := map[string][]string{
		"image": {p.registry + "/app"}, "cache-size": {p.size}, "skip-default-registry-fallback": {"true"},
		"skip-unchanged":   {"false"}, // each run is to build
		"go-proxy":         {"file:///proxy"},
		"go-no-sum-db":     {"*"},
		"registry-mirrors": {p.registry}, "registry-maps": {"gcr.io=" + p.registry}, "insecure-registries": {p.registry},
	}
	bound := map[string]string{"source": "/workspace/source"}
	if p.volume != "" {
		bound["cache"], bound["toolchains"] = "/workspace/cache", "/workspace/toolchains"
	}
	value := func(match []string) []string {
		switch match[1] {
		case "workspaces":
			return []string{bound[match[2]]}
		case "results":
			return []string{"/results/" + match[2]}
		}
		if values, ok := given[match[2]]; ok {
			return values
		}
		for _, param := range p.task.Spec.Params {
			if param.Name == match[2] && param.Default != nil {
				if param.Type == tekton.ParamTypeArray {
					return param.Default.ArrayVal
				}
				return []string{param.Default.StringVal}
			}
		}
		return nil
	}
	if match := variable.FindStringSubmatch(text); match != nil && match[0] == text {
		return value(match)
	}
	return []string{variable.ReplaceAllStringFunc(text, func(one string) string {
		return strings.Join(value(variable.FindStringSubmatch(one)), "")
	})}
}

// run runs a build to its end, and returns the image's digest and how long each
// step took.
func (p *pod) run(t *testing.T) (digest string, took map[string]time.Duration) {
	t.Helper()
	took = map[string]time.Duration{}
	for _, name := range steps[:len(steps)-1] {
		started := time.Now()
		if err := p.step(t, name).Run(); err != nil {
			t.Fatalf("step %s: %v\n%s", name, err, &p.log)
		}
		took[name] = time.Since(started)
	}
	started := time.Now()
	digest = p.push(t)
	took["push"] = time.Since(started)
	return digest, took
}

// push runs a build's last step, and returns the image's digest.
func (p *pod) push(t *testing.T) string {
	t.Helper()
	if err := p.step(t, "push").Run(); err != nil {
		t.Fatalf("step push: %v\n%s", err, &p.log)
	}
	content, err := os.ReadFile(p.path("results/IMAGE_DIGEST"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
