package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Down removes the cluster: its processes, mounts, network namespaces, cgroups
// and files. What was built stays in the cache, and the logs stay.
func Down(ctx context.Context, out io.Writer) error {
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	p := &progress{out: out, start: time.Now(), total: 1}
	return p.step(ctx, "remove the cluster", removeAll)
}

// removeAll leaves nothing of a cluster, whole or killed half-way.
func removeAll(ctx context.Context) error {
	if err := os.RemoveAll(readyFile); err != nil {
		return err
	}
	if err := endProcesses(); err != nil {
		return err
	}
	if err := unmountBelow(StateDir, RunDir); err != nil {
		return err
	}
	if err := removeCgroups(); err != nil {
		return err
	}
	if _, err := os.Stat(netnsPath); err == nil {
		if err := run(ctx, "ip", "netns", "delete", Netns); err != nil {
			return err
		}
	}
	for _, dir := range []string{StateDir, RunDir} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// unmountBelow unmounts everything under the folders, the deepest first.
func unmountBelow(dirs ...string) error {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(content)) {
		// Spaces in paths are "\040"; see proc_pid_mountinfo(5).
		point := strings.ReplaceAll(strings.Fields(line)[4], `\040`, " ")
		if slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(point, dir+"/") }) {
			points = append(points, point)
		}
	}
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

// removeCgroups removes this cluster's root from every hierarchy, the deepest
// group first. The kernel lets go of a group a moment after its last process.
func removeCgroups() error {
	roots, err := cgroups()
	if err != nil {
		return err
	}
	for _, root := range roots {
		var groups []string
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return nil // a group that is gone is what is wanted
		})
		if err != nil {
			return err
		}
		for _, group := range slices.Backward(groups) {
			if err := removeGroup(group); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeGroup(group string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := unix.Rmdir(group)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EBUSY) && time.Now().Before(deadline):
			time.Sleep(20 * time.Millisecond)
		default:
			return fmt.Errorf("remove cgroup %s: %w", group, err)
		}
	}
}
