package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// buildStandIns makes the stand-ins, in the folder layout of work.
func buildStandIns(ctx context.Context, work string) error {
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
	if _, err := b.image(staticImage, ociImage, staticConfig, static); err != nil {
		return err
	}

	alpine := newLayer()
	staticRoot(alpine)
	if err := busybox(ctx, alpine); err != nil {
		return err
	}
	alpineConfig := v1.Config{Env: staticConfig.Env[:1], Cmd: []string{"/bin/sh"}}
	shell, err := b.image(AlpineImage, ociImage, alpineConfig, alpine)
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
	_, err = b.image(gitImage, shell, alpineConfig, git)
	return err
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
