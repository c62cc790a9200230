// Package footprint measures what Slipway's own steps take: the time of
// prepare, and the most memory that each holds, as the programs that the step
// images have. Run it as
//
//	go test ./test/footprint -run '^$' -bench . -benchtime 3x
package footprint

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/test/cluster"
)

const gibibyte = 1 << 30

func BenchmarkPrepare(b *testing.B) {
	program := build(b, "prepare")
	for _, c := range []struct {
		name  string
		files int
		size  int64 // of each
		base  int64 // of a layer, fetched anew each time; 0 is bases that are known
	}{
		{"1000 files", 1000, 2000, 0},
		{"context of 1 GiB", 1000, gibibyte / 1000, 0},
		{"base image of 1 GiB", 1000, 2000, gibibyte},
	} {
		b.Run(c.name, func(b *testing.B) {
			img := must(random.Image(1000, 2))(b)
			if c.base > 0 {
				img = must(mutate.AppendLayers(img, largeLayer(b, c.base)))(b)
			}
			// Of this platform, as prepare looks for.
			config := must(img.ConfigFile())(b).DeepCopy()
			config.OS, config.Architecture = "linux", runtime.GOARCH
			img = must(mutate.ConfigFile(img, config))(b)
			host := serve(b, img)

			root := b.TempDir()
			source := filepath.Join(root, "source")
			for i := range c.files {
				sparseFile(b, filepath.Join(source, fmt.Sprintf("p%d", i%50), fmt.Sprintf("f%d.go", i)), c.size)
			}
			writeFile(b, filepath.Join(source, "Dockerfile"), "FROM golang:alpine AS build\nCOPY . .\nRUN go build -o /app\nFROM scratch\nCOPY --from=build /app /\n")
			writeFile(b, filepath.Join(source, ".dockerignore"), ".git\n**/*_test.go\n")
			env := []string{
				"WORKSPACE_SOURCE_PATH=" + source, "WORKSPACE_CACHE_PATH=" + filepath.Join(root, "cache"),
				"WORKSPACE_TOOLCHAINS_PATH=" + filepath.Join(root, "cache", "toolchains"),
				"PREPARED_PATH=" + filepath.Join(root, "prepared"), "BUILT_PATH=" + filepath.Join(root, "built"), "SECRETS_PATH=" + filepath.Join(root, "secrets"), "LOGINS_PATH=" + filepath.Join(root, "logins"),
				"PARAM_CONTEXT=.", "PARAM_DOCKERFILE=Dockerfile", "PARAM_GO_PROXY=http://proxy.example", "PARAM_TOOLCHAIN_CACHE=true",
				"PARAM_SKIP_DEFAULT_REGISTRY_FALLBACK=true", "PARAM_REPRODUCIBLE=true", "PARAM_SINGLE_SNAPSHOT=true",
				"PARAM_SKIP_UNUSED_STAGES=true", "PARAM_USE_NEW_RUN=false", "PARAM_IGNORE_VAR_RUN=true", "HOME=" + root,
				"PARAM_IMAGE=" + host + "/app:1", "PARAM_PUSH=true", "PARAM_PUSH_RETRY=0", "PARAM_SKIP_UNCHANGED=true", "PARAM_KANIKO_IMAGE=kaniko", "PARAM_FORCE=false", "PARAM_LOG_TIMESTAMP=false",
				"PARAM_IMAGE_DOWNLOAD_RETRY=0", "PARAM_IMAGE_FS_EXTRACT_RETRY=0",
				"PARAM_LAYER_CACHE_TTL=1h", "PARAM_CACHE_RUN_LAYERS=true", "PARAM_CACHE_COPY_LAYERS=false",
			}
			once := func(b *testing.B) { // as each pod has it
				for _, dir := range []string{"prepared", "built", "secrets"} {
					check(b, errors.Join(os.RemoveAll(filepath.Join(root, dir)), os.Mkdir(filepath.Join(root, dir), 0o755)))
				}
				if c.base > 0 {
					check(b, os.RemoveAll(filepath.Join(root, "cache")))
				}
				check(b, os.MkdirAll(filepath.Join(root, "cache"), 0o777))
			}
			once(b)
			args := []string{"--build-args", "--kaniko-args", "--registry-mirrors", host, "--registry-maps", "--insecure-registries", "--skip-tls-verify-registries"}
			measure(b, program, env, args, once)
		})
	}
}

// An executor that does nothing has left an image with one layer, whose times
// are taken out.
func BenchmarkRunKaniko(b *testing.B) {
	program := build(b, "prepare")
	root := b.TempDir()
	p := plan.Plan{
		Started: time.Now(), Layout: filepath.Join(root, "layout"), Reproducible: true,
		ActionGraph: filepath.Join(root, "go", "actions"), Compiled: filepath.Join(root, "go", "compiled.json"),
	}
	check(b, p.Write(root))
	layer := largeLayer(b, gibibyte)
	once := func(b *testing.B) {
		check(b, os.RemoveAll(p.Layout))
		writeLayout(b, p.Layout, layer)
	}
	measure(b, program, []string{"PREPARED_PATH=" + root, "KANIKO_EXECUTOR=/bin/true", "TERMINATION_LOG=" + filepath.Join(root, "termination")}, []string{"run-kaniko"}, once)
}

func BenchmarkPush(b *testing.B) {
	program := build(b, "push")
	root := b.TempDir()
	p := plan.Plan{Started: time.Now(), Layout: filepath.Join(root, "layout"), Compiled: filepath.Join(root, "go", "compiled.json")}
	check(b, p.Write(root))
	writeLayout(b, p.Layout, largeLayer(b, gibibyte))
	env := []string{
		"PREPARED_PATH=" + root, "LOGINS_PATH=" + filepath.Join(root, "logins"), "HOME=" + root,
		"RESULT_IMAGE_URL_PATH=" + filepath.Join(root, "url"), "RESULT_IMAGE_DIGEST_PATH=" + filepath.Join(root, "digest"),
		"RESULT_BUILD_REPORT_PATH=" + filepath.Join(root, "report"),
		"RESULT_IMAGE_URLS_PATH=" + filepath.Join(root, "urls"), "RESULT_DEPLOY_IMAGE_PATH=" + filepath.Join(root, "deploy"),
		"PARAM_PUSH=true", "PARAM_PUSH_RETRY=0", "TASK_RUN=team/run",
	}
	host := serve(b, empty.Image)
	measure(b, program, append(env, "PARAM_IMAGE="+host+"/app:1"), []string{"--insecure-registries", "--skip-tls-verify-registries"}, func(*testing.B) {})
}

func measure(b *testing.B, program string, env, args []string, before func(*testing.B)) {
	b.Helper()
	before(b)
	run(b, program, env, args) // what is known from then on is known
	highest = 0
	for b.Loop() {
		b.StopTimer()
		before(b)
		b.StartTimer()
		run(b, program, env, args)
	}
	report(b)
}

// highest is the most memory that a program of this benchmark has held, in KiB:
// VmHWM of proc(5), looked up while it runs, as what the kernel tells when it
// has ended counts this process too.
var highest int64

func run(b *testing.B, program string, env, args []string) {
	b.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(b.Context(), program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	check(b, cmd.Start())
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(2 * time.Millisecond):
				highest = max(highest, memory(cmd.Process.Pid))
			}
		}
	})
	err := cmd.Wait()
	close(ended)
	watch.Wait()
	if err != nil {
		b.Fatalf("%s: %v\n%s", program, err, &out)
	}
}

func memory(pid int) (kibibytes int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone by now
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kibibytes); err == nil {
			return kibibytes
		}
	}
	return 0
}

func report(b *testing.B) {
	b.ReportMetric(float64(highest)*1024/1e6, "MB-memory")
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/op")
	b.ReportMetric(0, "ns/op") // not shown
	highest = 0
}

// build makes a step's program as its image has it.
func build(b *testing.B, command string) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), command)
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-o", program, "./cmd/"+command)
	cmd.Dir, cmd.Env = cluster.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", command, err, out)
	}
	return program
}

// serve is a registry on loopback with one image, and one that keeps nothing
// of what it is sent: others hold it in the memory of this process.
func serve(b *testing.B, img v1.Image) (host string) {
	b.Helper()
	blobs, manifest := map[string]func() (io.ReadCloser, error){}, must(img.RawManifest())(b)
	config := must(img.RawConfigFile())(b)
	blobs[must(img.ConfigName())(b).String()] = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil }
	for _, layer := range must(img.Layers())(b) {
		blobs[must(layer.Digest())(b).String()] = layer.Compressed
	}
	mediaType := string(must(img.MediaType())(b))
	digest := must(img.Digest())(b).String()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		blob := blobs[path.Base(r.URL.Path)]
		switch read := r.Method == http.MethodGet || r.Method == http.MethodHead; {
		case r.URL.Path == "/v2/":
		case read && strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Docker-Content-Digest", digest)
			_, _ = w.Write(manifest)
		case read && blob == nil:
			w.WriteHeader(http.StatusNotFound)
		case read:
			content, err := blob()
			if err == nil {
				_, _ = io.Copy(w, content)
				_ = content.Close()
			}
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		default:
			w.Header().Set("Location", "/v2/app/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	b.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func writeLayout(b *testing.B, dir string, layer v1.Layer) {
	b.Helper()
	entry := must(layout.Write(dir, empty.Index))(b)
	check(b, entry.AppendImage(must(mutate.AppendLayers(empty.Image, layer))(b)))
}

// large is a layer of one file that does not compress, on disk.
type large struct {
	path         string
	digest, diff v1.Hash
	size         int64
}

func largeLayer(b *testing.B, size int64) v1.Layer {
	b.Helper()
	l := &large{path: filepath.Join(b.TempDir(), "layer.tar.gz")}
	file := must(os.Create(l.path))(b)
	digest, diff := sha256.New(), sha256.New()
	zip := must(gzip.NewWriterLevel(io.MultiWriter(file, digest), gzip.NoCompression))(b)
	archive := tar.NewWriter(io.MultiWriter(zip, diff))
	check(b, archive.WriteHeader(&tar.Header{Name: "large", Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Now()}))
	_, err := io.CopyN(archive, rand.NewChaCha8([32]byte{}), size)
	check(b, errors.Join(err, archive.Close(), zip.Close()))
	l.size = must(file.Stat())(b).Size()
	check(b, file.Close())
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest.Sum(nil))}
	l.diff = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(diff.Sum(nil))}
	return l
}

func (l *large) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l *large) DiffID() (v1.Hash, error)            { return l.diff, nil }
func (l *large) Compressed() (io.ReadCloser, error)  { return os.Open(l.path) }
func (l *large) Size() (int64, error)                { return l.size, nil }
func (l *large) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

// Uncompressed is for whoever looks into images; nobody here does.
func (l *large) Uncompressed() (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}

func sparseFile(b *testing.B, path string, size int64) {
	b.Helper()
	check(b, os.MkdirAll(filepath.Dir(path), 0o755))
	file := must(os.Create(path))(b)
	check(b, errors.Join(file.Truncate(size), file.Close()))
}

func writeFile(b *testing.B, path, content string) {
	b.Helper()
	check(b, os.WriteFile(path, []byte(content), 0o644))
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func must[T any](value T, err error) func(*testing.B) T {
	return func(b *testing.B) T {
		b.Helper()
		check(b, err)
		return value
	}
}
