package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/test/cluster/parts"
	"github.com/slipway-ci/slipway/test/docker/container"
)

// buildKit is a daemon and its client. What the daemon keeps is in memory, and
// gone with it.
type buildKit struct {
	client string // buildctl
	addr   string
	daemon *exec.Cmd
	ended  chan struct{}
	log    string // a file
	state  string // its folder, as it sees it
	builds atomic.Int64
	use    sync.RWMutex // what builds left is removed while there is none
}

// maxState is how much the daemon may keep of earlier builds: it lies in memory.
const maxState = 3 << 30

// startWithin is how long the daemon may take to serve.
const startWithin = time.Minute

// upstreams are the registries that Dockerfiles may name; the tests' own stands
// in for all of them.
var upstreams = []string{"docker.io", "gcr.io", "ghcr.io", "quay.io", "registry.k8s.io"}

func startBuildKit(ctx context.Context, dir, enter, registry string) (*buildKit, error) {
	programs, err := parts.Ensure(ctx, "buildkit", filepath.Join(dir, "build-buildkit.log"))
	if err != nil {
		return nil, err
	}
	config := &strings.Builder{}
	for _, host := range upstreams {
		fmt.Fprintf(config, "[registry.%q]\n  mirrors = [%q]\n", host, registry)
	}
	fmt.Fprintf(config, "[registry.%q]\n  http = true\n", registry)
	// What a build leaves is removed between builds and not in their midst.
	fmt.Fprint(config, "[worker.oci]\n  gc = false\n[worker.containerd]\n  enabled = false\n[history]\n  maxEntries = 1\n")
	file := filepath.Join(dir, "buildkitd.toml")
	state := filepath.Join(dir, "buildkit")
	if err := errors.Join(os.WriteFile(file, []byte(config.String()), 0o644), os.Mkdir(state, 0o700)); err != nil {
		return nil, err
	}
	b := &buildKit{
		client: filepath.Join(programs, "buildctl"), addr: "unix://" + filepath.Join(dir, "buildkit.sock"),
		ended: make(chan struct{}), log: filepath.Join(dir, "buildkitd.log"), state: state,
	}
	daemon := container.Container{
		Memory: state,
		Command: []string{
			filepath.Join(programs, "buildkitd"), "--config=" + file, "--root=" + state, "--addr=" + b.addr,
			"--oci-worker-net=host", "--oci-worker-snapshotter=native",
		},
		// What the registry does not have is nowhere: this proxy refuses at once.
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + state, "HTTPS_PROXY=http://127.0.0.1:1", "TMPDIR=" + state},
	}
	if b.daemon, err = daemon.Start(context.WithoutCancel(ctx), enter); err != nil {
		return nil, err
	}
	log, err := os.Create(b.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.daemon.Stdout, b.daemon.Stderr = log, log
	b.daemon.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		// The daemon ends with the thread that starts it: this one stays until then.
		runtime.LockOSThread()
		err := b.daemon.Start()
		started <- err
		if err == nil {
			_ = b.daemon.Wait() // its log says why
		}
		close(b.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start buildkitd: %w; it takes root", err)
	}
	if err := b.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

// awaitReady asks until the daemon has a worker.
func (b *buildKit) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for try := time.NewTicker(100 * time.Millisecond); ; {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(b.addr, "unix://"))
		if err == nil {
			_ = connection.Close()
			if err = exec.CommandContext(ctx, b.client, "--addr="+b.addr, "debug", "workers").Run(); err == nil {
				return nil
			}
		}
		select {
		case <-b.ended:
			return b.unable(errors.New("it ended at once"))
		case <-ctx.Done():
			return b.unable(err)
		case <-try.C:
		}
	}
}

// unable is an error of the daemon's, with the end of its log.
func (b *buildKit) unable(err error) error {
	content, _ := os.ReadFile(b.log)
	return fmt.Errorf("buildkitd does not serve: %w; its log ends: %s", err, lastLines(string(content), 5))
}

func (b *buildKit) stop() error {
	select {
	case <-b.ended:
		return nil
	default:
	}
	if err := b.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop buildkitd: %w", err)
	}
	select {
	case <-b.ended:
	case <-time.After(10 * time.Second):
		if err := b.daemon.Process.Kill(); err != nil {
			return fmt.Errorf("end buildkitd: %w", err)
		}
		<-b.ended
	}
	return nil
}

// build returns the image, or the log of the build that failed.
func (b *buildKit) build(ctx context.Context, c Case, dir string) (v1.Image, string, error) {
	dockerfile, out := filepath.Join(dir, "dockerfile"), filepath.Join(dir, "image")
	if err := os.Mkdir(dockerfile, 0o755); err != nil {
		return nil, "", err
	}
	if err := c.copyDockerfile(dockerfile); err != nil {
		return nil, "", err
	}
	if err := b.makeRoom(ctx); err != nil {
		return nil, "", err
	}
	b.use.RLock()
	defer b.use.RUnlock()
	args := []string{
		"--addr=" + b.addr, "build", "--progress=plain", "--frontend=dockerfile.v0", "--local=context=" + c.Dir, "--local=dockerfile=" + dockerfile,
		"--output=type=oci,tar=false,compression=uncompressed,dest=" + out,
		// Cache mounts are empty in each build, as they are in a build pod.
		fmt.Sprintf("--opt=build-arg:BUILDKIT_CACHE_MOUNT_NS=build-%d", b.builds.Add(1)),
	}
	for _, key := range slices.Sorted(maps.Keys(c.Args)) {
		args = append(args, "--opt=build-arg:"+key+"="+c.Args[key])
	}
	if c.Target != "" {
		args = append(args, "--opt=target="+c.Target)
	}
	ctx, cancel := withinBound(ctx)
	defer cancel()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, b.client, args...)
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = &log, &log
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, log.String(), fmt.Errorf("BuildKit does not end: %w", context.Cause(ctx))
	case !errors.As(err, &exit):
		return nil, "", fmt.Errorf("run buildctl: %w", err)
	case b.hasEnded():
		return nil, "", b.unable(errors.New("it ended"))
	default:
		return nil, log.String(), nil
	}
	image, err := imageOf(out)
	if err != nil {
		return nil, "", fmt.Errorf("read BuildKit's image: %w", err)
	}
	return image, log.String(), nil
}

// makeRoom removes what builds left, where that is much.
func (b *buildKit) makeRoom(ctx context.Context) error {
	var about unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/root%s", b.daemon.Process.Pid, b.state), &about); err != nil {
		return b.unable(err)
	}
	if used := (about.Blocks - about.Bfree) * uint64(about.Bsize); used < maxState {
		return nil
	}
	b.use.Lock()
	defer b.use.Unlock()
	if output, err := exec.CommandContext(ctx, b.client, "--addr="+b.addr, "prune", "--all").CombinedOutput(); err != nil {
		return fmt.Errorf("remove what builds left in BuildKit: %w: %s", err, output)
	}
	return nil
}

func (b *buildKit) hasEnded() bool {
	select {
	case <-b.ended:
		return true
	default:
		return false
	}
}

// imageOf is the one image of a layout.
func imageOf(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images, want one", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
