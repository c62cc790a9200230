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
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

	before := programs(t)
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
	if after := programs(t); !slices.Equal(before, after) {
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

// programs lists those processes that up has started itself: each leads a
// session of its own. What they start in turn (iptables, containers' shims)
// comes and goes.
func programs(t *testing.T) []int {
	t.Helper()
	return slices.DeleteFunc(processes(t), func(pid int) bool {
		session, err := unix.Getsid(pid)
		name, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return err != nil || readErr != nil || session != pid || strings.HasPrefix(string(name), "containerd-shim")
	})
}

// processes lists all that carries the cluster's mark.
func processes(t *testing.T) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(environ, []byte("SLIPWAY_CLUSTER_PROCESS=1")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, pid)
	}
	slices.Sort(found)
	return found
}
