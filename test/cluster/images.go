package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
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
	alpineImage  = "docker.io/library/alpine:latest"
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

// refAnnotation names an image in a layout:
// https://github.com/opencontainers/image-spec/blob/main/annotations.md.
const refAnnotation = "org.opencontainers.image.ref.name"

// koPrefix starts the references that Tekton's own configuration has in place
// of images: import paths of the programs they hold.
const koPrefix = "ko://"

// images is the layout of every image the cluster starts with. They are built
// once for a set of parts and kept.
func images(ctx context.Context, logDir string) (layout.Path, error) {
	cache, err := parts.CacheDir()
	if err != nil {
		return "", err
	}
	key, err := imagesKey(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "images-"+key)
	if p, err := layout.FromPath(dir); err == nil {
		return p, nil
	}
	work, err := os.MkdirTemp(cache, "images-unfinished-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := buildImages(ctx, work, logDir); err != nil {
		return "", fmt.Errorf("build the cluster's images: %w", err)
	}
	if err := os.Rename(filepath.Join(work, "layout"), dir); err != nil {
		return "", err
	}
	return layout.FromPath(dir)
}

// imagesKey covers what the images are made of: the programs, this machine's Go
// and packages, and the files that say how.
func imagesKey(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, part := range []string{"tekton", "triggers", "kaniko"} {
		key, err := parts.Key(part)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, part, key)
	}
	names := append([]string{"-W", "git", "busybox-static", "libc6", "ca-certificates", "tini"}, compilerPackages...)
	packages, err := exec.CommandContext(ctx, "dpkg-query", names...).Output()
	if err != nil {
		return "", fmt.Errorf("ask for the versions of Debian packages: %w", err)
	}
	fmt.Fprintln(h, runtime.Version(), string(packages))
	for _, file := range []string{"compiler.go", "images.go", "layer.go", "pause/main.go"} {
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
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find Go: %w", err)
	}

	static := newLayer()
	staticRoot(static)
	staticConfig := v1.Config{
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		WorkingDir: "/",
		User:       "0",
	}
	base, err := b.image(staticImage, ociImage, staticConfig, static)
	if err != nil {
		return err
	}

	alpine := newLayer()
	staticRoot(alpine)
	if err := busybox(ctx, alpine); err != nil {
		return err
	}
	alpineConfig := v1.Config{Env: staticConfig.Env[:1], Cmd: []string{"/bin/sh"}}
	shell, err := b.image(alpineImage, ociImage, alpineConfig, alpine)
	if err != nil {
		return err
	}
	// Of Docker's types, as many images still are.
	if _, err := b.image(busyboxImage, empty.Image, alpineConfig, alpine); err != nil {
		return err
	}

	// As the real one is made: Go in a layer of its own, an empty GOPATH in
	// the next.
	toolchain, gopath := newLayer(), newLayer()
	toolchain.tree("/usr/local/go", strings.TrimSpace(string(goroot)))
	gopath.dir("/go", 0o1777)
	gopath.dir("/go/src", 0o1777)
	gopath.dir("/go/bin", 0o1777)
	golangConfig := v1.Config{
		Env: []string{
			"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"GOLANG_VERSION=" + strings.TrimPrefix(runtime.Version(), "go"),
			"GOTOOLCHAIN=local",
			"GOPATH=/go",
		},
		Cmd:        []string{"/bin/sh"},
		WorkingDir: "/go",
	}
	if _, err := b.image(golangImage, shell, golangConfig, toolchain, gopath); err != nil {
		return err
	}
	cc := newLayer()
	if err := compiler(ctx, cc); err != nil {
		return err
	}
	if _, err := b.image(golangCImage, shell, golangConfig, cc, toolchain, gopath); err != nil {
		return err
	}

	git := newLayer()
	gitRoot(git)
	withGit, err := b.image(gitImage, shell, alpineConfig, git)
	if err != nil {
		return err
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
	return b.tekton(ctx, base, withGit, logDir)
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
	_, err = b.image(KanikoImage, empty.Image, v1.Config{
		Entrypoint: []string{"/kaniko/executor"},
		WorkingDir: "/workspace",
		Env: []string{
			"HOME=/root", "USER=root", "PATH=/usr/local/bin:/kaniko",
			"SSL_CERT_DIR=/kaniko/ssl/certs", "DOCKER_CONFIG=/kaniko/.docker/",
			"DOCKER_CREDENTIAL_GCR_CONFIG=/kaniko/.config/gcloud/docker_credential_gcr_config.json",
		},
	}, l)
	return err
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
	if err := b.layout.AppendImage(img, layout.WithAnnotations(map[string]string{refAnnotation: ref})); err != nil {
		return fmt.Errorf("keep %s: %w", ref, err)
	}
	return nil
}

const caCertificates = "/etc/ssl/certs/ca-certificates.crt"

// staticRoot is what gcr.io/distroless/static consists of, but for time zones.
func staticRoot(l *layer) {
	l.text("/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
	l.text("/etc/group", "root:x:0:\nnobody:x:65534:\ntty:x:5:\nnonroot:x:65532:\n")
	l.text("/etc/nsswitch.conf", "hosts: files dns\n")
	l.text("/etc/os-release", "NAME=\"Slipway stand-in\"\nID=slipway-stand-in\n")
	l.file("/etc/ssl/certs/ca-certificates.crt", 0o644, caCertificates)
	l.dir("/root", 0o700)
	l.dir("/home/nonroot", 0o755)
	l.dir("/tmp", 0o1777)
	l.dir("/var/tmp", 0o1777)
}

// busybox adds a static busybox and a link for each of its commands.
func busybox(ctx context.Context, l *layer) error {
	l.file("/bin/busybox", 0o755, "/bin/busybox")
	out, err := exec.CommandContext(ctx, "/bin/busybox", "--list-full").Output()
	if err != nil {
		return fmt.Errorf("list busybox's commands: %w", err)
	}
	for command := range strings.FieldsSeq(string(out)) {
		if command != "bin/busybox" {
			l.link(command, "/bin/busybox")
		}
	}
	l.dir("/usr/local/bin", 0o755)
	return nil
}

// gitRoot adds this machine's git, its smart-HTTP server included.
func gitRoot(l *layer) {
	l.link("/lib64", "usr/lib64")
	l.program("/usr/bin/git")
	l.file("/sbin/tini", 0o755, "/usr/bin/tini-static")
	l.tree("/usr/lib/git-core", "/usr/lib/git-core")
	l.tree("/usr/share/git-core/templates", "/usr/share/git-core/templates")
	for _, program := range []string{"git-remote-http", "git-http-backend"} {
		l.program("/usr/lib/git-core/" + program)
	}
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
		ref := m.Annotations[refAnnotation]
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
