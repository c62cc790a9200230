// Package lifecycle tests that the cluster comes up and goes away. It owns the
// machine's one cluster while it runs: TestUp leaves it up for the tests that
// need it, TestDown removes it.
package lifecycle_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/test/cluster"
)

// cli builds the command behind `make cluster`, so that it can be killed
// without killing a go command around it instead.
func cli(t *testing.T) string {
	t.Helper()
	if os.Getenv("KUBECONFIG") != "" {
		t.Fatal("KUBECONFIG is set: there is no local cluster to bring up or down")
	}
	binary := filepath.Join(t.TempDir(), "cli")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cli").CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	return binary
}

func run(t *testing.T, binary string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args, err, out)
	}
	return string(out)
}

// killAfter starts `up` and kills it, and it alone, when it has said line.
func killAfter(t *testing.T, binary, line string) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	up := exec.CommandContext(ctx, binary, "up")
	output, err := up.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(output, &seen))
	found := false
	for !found && lines.Scan() {
		found = strings.Contains(lines.Text(), line)
	}
	kill()
	// Being killed is the point.
	_ = up.Wait()
	if !found {
		t.Fatalf("up ended before it said %q:\n%s", line, seen.String())
	}
}

func TestUpFromWhatAKilledRunLeft(t *testing.T) {
	binary := cli(t)
	run(t, binary, "down")
	for _, line := range []string{"network namespace, cgroups, keys", "controllers, scheduler, node, DNS"} {
		killAfter(t, binary, line)
	}
	run(t, binary, "up")

	before := processes(t)
	if len(before) == 0 {
		t.Fatal("the cluster is up, and no process is its own")
	}
	for _, family := range []string{"-4", "-6"} {
		if route := run(t, "ip", "-n", cluster.Netns, family, "route", "show", "default"); strings.TrimSpace(route) != "" {
			t.Errorf("there is a way out: %s", route)
		}
	}
	if out := run(t, binary, "up"); !strings.Contains(out, "up already") {
		t.Errorf("a second up did something:\n%s", out)
	}
	if after := processes(t); !slices.Equal(before, after) {
		t.Errorf("a second up changed the cluster's processes:\n%v\n%v", before, after)
	}
}

func TestDownLeavesNothing(t *testing.T) {
	binary := cli(t)
	run(t, binary, "down")
	if left := processes(t); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, cluster.StateDir) || strings.Contains(line, cluster.RunDir) || strings.Contains(line, "/run/netns/"+cluster.Netns+" ") {
			t.Errorf("a mount is left: %s", line)
		}
	}
	for _, pattern := range []string{"/run/netns/" + cluster.Netns, "/sys/fs/cgroup/*/slipway-cluster", "/sys/fs/cgroup/slipway-cluster", cluster.StateDir, cluster.RunDir} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	run(t, binary, "down") // of nothing
}

// processes lists what runs from the cluster's own programs, containers'
// shims included. Containers come and go by themselves.
func processes(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(environ, []byte("SLIPWAY_CLUSTER_PROCESS=1")) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || strings.HasPrefix(string(name), "containerd-shim") || strings.HasPrefix(string(name), "runc") {
			continue
		}
		found = append(found, fmt.Sprintf("%s %s", filepath.Base(dir), strings.TrimSpace(string(name))))
	}
	slices.Sort(found)
	return found
}
