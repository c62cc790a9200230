package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/slipway-ci/slipway/test/cluster/parts"
)

// git installs the git server and the git-clone task.
func (b *boot) git(ctx context.Context) error {
	var manifests bytes.Buffer
	if err := Resolve(ctx, &manifests, "test/cluster/manifests"); err != nil {
		return err
	}
	if err := waitFor(ctx, "the git server's manifests", func(ctx context.Context) error {
		return kubectl(ctx, manifests.String(), "apply", "--server-side", "-f", "-")
	}); err != nil {
		return err
	}
	return kubectl(ctx, "", "wait", "--for=condition=Available", "deployment/git", "--namespace=git", "--timeout=2m")
}

// Resolve builds what the ko:// references in the YAML files at paths (relative
// to the repository's root) name, pushes it, and writes the YAML with the
// images' digests to out. In the local cluster ko builds upon the stand-in
// images and pushes to the cluster's registry; elsewhere KO_DOCKER_REPO says
// where to, and images/ko.yaml what upon.
func Resolve(ctx context.Context, out io.Writer, paths ...string) error {
	root := Root()
	logFile, err := os.CreateTemp("", "slipway-ko-*.log")
	if err != nil {
		return err
	}
	defer os.Remove(logFile.Name())
	defer logFile.Close()
	dir, err := parts.Ensure(ctx, "ko", logFile.Name())
	if err != nil {
		return err
	}
	args := []string{"resolve", "--sbom=none", "--recursive", "--base-import-paths"}
	for _, path := range paths {
		args = append(args, "--filename="+path)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "ko"), args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "KO_CONFIG_PATH="+filepath.Join(root, "images", "ko.yaml"))
	if _, given := os.LookupEnv("KUBECONFIG"); !given || Local() {
		cmd.Env = append(cmd.Env,
			"KO_CONFIG_PATH="+filepath.Join(root, "test", "cluster", "ko.yaml"),
			"KO_DOCKER_REPO="+registryAddress+"/slipway",
			"GOPROXY=off", // there is no way out from there
		)
	}
	var problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &problems
	if err := inNetnsUnless(cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("resolve %s: ko: %w: %s", strings.Join(paths, ", "), err, lastLines(problems.String(), 15))
	}
	return nil
}

// inNetnsUnless runs do in the node's network namespace, or where it is if that
// is there already or on somebody's own cluster.
func inNetnsUnless(do func() error) error {
	if os.Getenv("KUBECONFIG") != "" {
		return do()
	}
	return inNetns(do)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
