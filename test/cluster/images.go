package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/test/cluster/parts"
)

// The images under the names they have outside. Those of Tekton and kaniko hold
// the real programs; the rest are stand-ins, made of this machine's Go and
// Debian packages, since no image can be pulled here.
const (
	golangImage  = "docker.io/library/golang:alpine"
	golangCImage = "docker.io/library/golang:bookworm" // with Debian's C compiler
	AlpineImage  = "docker.io/library/alpine:latest"
	staticImage  = "gcr.io/distroless/static:latest"
	busyboxImage = "docker.io/library/busybox:latest"
	pauseImage   = "registry.k8s.io/pause:3.10"
	gitImage     = "docker.io/alpine/git:latest"
	// KanikoImage is what tasks/build.yaml uses by default.
	KanikoImage = "ghcr.io/osscontainertools/kaniko:v1.27.5"
)

// ociImage is empty, and what is built on it has OCI's types, as today's golang,
// alpine and distroless have.
var ociImage = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)

// RefAnnotation names an image in a layout:
// https://github.com/opencontainers/image-spec/blob/main/annotations.md.
const RefAnnotation = "org.opencontainers.image.ref.name"

// koPrefix starts the references that Tekton's own configuration has in place
// of images: import paths of the programs they hold.
const koPrefix = "ko://"

// images is the layout of every image the cluster starts with. They are built
// once for a set of parts and kept.
func images(ctx context.Context, logDir string) (layout.Path, error) {
	key, err := imagesKey(ctx)
	if err != nil {
		return "", err
	}
	return keptLayout("images-"+key, func(work string) error {
		if err := buildImages(ctx, work, logDir); err != nil {
			return fmt.Errorf("build the cluster's images: %w", err)
		}
		return nil
	})
}

// StandIns is the layout of the stand-ins for base images, each with its name
// as [RefAnnotation]. They are built once and kept.
func StandIns(ctx context.Context) (layout.Path, error) {
	key, err := standInsKey(ctx)
	if err != nil {
		return "", err
	}
	return keptLayout("bases-"+key, func(work string) error {
		if err := buildStandIns(ctx, work); err != nil {
			return fmt.Errorf("build stand-ins for base images: %w", err)
		}
		return nil
	})
}

// keptLayout is the layout that is kept under a name. Where there is none, build
// leaves it as the folder layout of an empty one.
func keptLayout(name string, build func(work string) error) (layout.Path, error) {
	cache, err := parts.CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name)
	if p, err := layout.FromPath(dir); err == nil {
		return p, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, name+"-unfinished-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := build(work); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(work, "layout"), dir); err != nil {
		if p, kept := layout.FromPath(dir); kept == nil {
			return p, nil // another process was faster
		}
		return "", err
	}
	return layout.FromPath(dir)
}

// imagesKey covers what the images are made of: the programs, the stand-ins,
// and the files that say how.
func imagesKey(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, part := range []string{"tekton", "triggers", "kaniko"} {
		key, err := parts.Key(part)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, part, key)
	}
	key, err := standInsKey(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(h, key)
	return sumWith(h, "images.go", "pause/main.go")
}

// standInsKey covers what the stand-ins are made of: this machine's Go and
// packages, and the files that say how.
func standInsKey(ctx context.Context) (string, error) {
	h := sha256.New()
	names := append([]string{"-W", "git", "busybox-static", "libc6", "ca-certificates", "tini"}, compilerPackages...)
	packages, err := exec.CommandContext(ctx, "dpkg-query", names...).Output()
	if err != nil {
		return "", fmt.Errorf("ask for the versions of Debian packages: %w", err)
	}
	fmt.Fprintln(h, runtime.Version(), string(packages))
	return sumWith(h, "compiler.go", "layer.go", "standins.go")
}

// sumWith adds files of this folder to h and returns what names the whole.
func sumWith(h hash.Hash, files ...string) (string, error) {
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(ownDir(), file))
		if err != nil {
			return "", err
		}
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

type builder struct {
	work   string // layers' files
	layout layout.Path
}

func buildImages(ctx context.Context, work, logDir string) error {
	index, err := layout.Write(filepath.Join(work, "layout"), empty.Index)
	if err != nil {
		return err
	}
	b := builder{work, index}
	kept, err := StandIns(ctx)
	if err != nil {
		return err
	}
	standIns, err := Named(kept)
	if err != nil {
		return err
	}
	for _, ref := range slices.Sorted(maps.Keys(standIns)) {
		if err := b.add(ref, standIns[ref]); err != nil {
			return err
		}
	}

	pause := newLayer()
	built := filepath.Join(work, "pause")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", built, "./pause")
	cmd.Dir, cmd.Env = ownDir(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build pause: %w: %s", err, out)
	}
	pause.file("/pause", 0o755, built)
	if _, err := b.image(pauseImage, empty.Image, v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}, pause); err != nil {
		return err
	}

	if err := b.kaniko(ctx, logDir); err != nil {
		return err
	}
	return b.tekton(ctx, standIns[staticImage], standIns[gitImage], logDir)
}

// kaniko makes kaniko's executor image as its deploy/Dockerfile does, less the
// credential helpers, which a registry without credentials does not need.
func (b builder) kaniko(ctx context.Context, logDir string) error {
	dir, err := parts.Ensure(ctx, "kaniko", filepath.Join(logDir, "build-kaniko.log"))
	if err != nil {
		return err
	}
	l := newLayer()
	l.dir("/kaniko", 0o777)
	l.dir("/kaniko/.docker", 0o777)
	l.text("/kaniko/.docker/config.json", "{}")
	l.dir("/workspace", 0o755)
	l.file("/kaniko/executor", 0o755, filepath.Join(dir, "executor"))
	l.file("/kaniko/ssl/certs/ca-certificates.crt", 0o644, caCertificates)
	l.text("/etc/nsswitch.conf", "hosts: files dns\n")
	_, err = b.image(KanikoImage, empty.Image, v1.Config{Entrypoint: []string{"/kaniko/executor"}, WorkingDir: "/workspace", Env: KanikoEnv}, l)
	return err
}

// KanikoEnv is the environment of kaniko's image.
var KanikoEnv = []string{
	"HOME=/root", "USER=root", "PATH=/usr/local/bin:/kaniko",
	"SSL_CERT_DIR=/kaniko/ssl/certs", "DOCKER_CONFIG=/kaniko/.docker/",
	"DOCKER_CREDENTIAL_GCR_CONFIG=/kaniko/.config/gcloud/docker_credential_gcr_config.json",
}

// tekton makes an image of each program of Pipelines and Triggers, as ko does:
// upon a static base, but for the resolvers, which run git.
func (b builder) tekton(ctx context.Context, static, git v1.Image, logDir string) error {
	for part, module := range tektonModules {
		dir, err := parts.Ensure(ctx, part, filepath.Join(logDir, "build-"+part+".log"))
		if err != nil {
			return err
		}
		programs, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, program := range programs {
			base := static
			if program.Name() == "resolvers" {
				base = git
			}
			l := newLayer()
			inside := path.Join("/ko-app", program.Name())
			l.file(inside, 0o755, filepath.Join(dir, program.Name()))
			l.text("/var/run/ko/HEAD", part)
			config := v1.Config{
				Entrypoint: []string{inside},
				Env:        []string{"PATH=/usr/bin:/bin:/ko-app", "KO_DATA_PATH=/var/run/ko", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
				WorkingDir: "/",
				User:       "65532",
			}
			if _, err := b.image(koPrefix+module+"/cmd/"+program.Name(), base, config, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// image appends layers to base, of its types, and keeps the result under ref.
func (b builder) image(ref string, base v1.Image, config v1.Config, layers ...*layer) (v1.Image, error) {
	img, layerType := base, types.OCILayer
	if manifestType, err := base.MediaType(); err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	} else if manifestType != types.OCIManifestSchema1 {
		layerType = types.DockerLayer
	}
	for _, l := range layers {
		built, err := l.build(b.work, layerType)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		if img, err = mutate.AppendLayers(img, built); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Config, file.OS, file.Architecture = config, "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return nil, err
	}
	return img, b.add(ref, img)
}

func (b builder) add(ref string, img v1.Image) error {
	if err := b.layout.AppendImage(img, layout.WithAnnotations(map[string]string{RefAnnotation: ref})); err != nil {
		return fmt.Errorf("keep %s: %w", ref, err)
	}
	return nil
}

// pushImages sends every image of the layout to the cluster's registry and
// returns, for each name, the reference a pod can use: by digest.
func pushImages(ctx context.Context, p layout.Path) (map[string]string, error) {
	index, err := p.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	pusher, err := remote.NewPusher(remote.WithTransport(netnsTransport()))
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, m := range manifest.Manifests {
		ref := m.Annotations[RefAnnotation]
		repository, tag, err := inRegistry(ref)
		if err != nil {
			return nil, err
		}
		refs[ref] = Registry + "/" + repository + "@" + m.Digest.String()
		group.Go(func() error {
			found, err := index.Image(m.Digest)
			if err != nil {
				return fmt.Errorf("read image %s: %w", ref, err)
			}
			to, err := name.NewTag(registryAddress+"/"+repository+":"+tag, name.Insecure)
			if err != nil {
				return err
			}
			if err := pusher.Push(ctx, to, found); err != nil {
				return fmt.Errorf("push %s to the cluster's registry: %w", ref, err)
			}
			return nil
		})
	}
	return refs, group.Wait()
}

// Named are the images of a layout by their names.
func Named(p layout.Path) (map[string]v1.Image, error) {
	index, err := p.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	images := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		ref := m.Annotations[RefAnnotation]
		if images[ref], err = index.Image(m.Digest); err != nil {
			return nil, fmt.Errorf("read image %s: %w", ref, err)
		}
	}
	return images, nil
}

// inRegistry is where an image that has the name ref outside lies in the
// cluster's registry, which is every registry's mirror.
func inRegistry(ref string) (repository, tag string, err error) {
	if path, ok := strings.CutPrefix(ref, koPrefix); ok {
		return strings.ToLower(path), "latest", nil
	}
	parsed, err := name.NewTag(ref)
	if err != nil {
		return "", "", err
	}
	return parsed.RepositoryStr(), parsed.TagStr(), nil
}
