package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// marker is in the environment of every process of the cluster, children
// included: down ends what carries it and nothing else.
const marker = "SLIPWAY_CLUSTER_PROCESS=1"

// start runs one of the cluster's programs in the node's network namespace, in
// a session of its own so that it outlives the caller, with its output in
// LogDir. argv0 is what the program is called as.
func start(argv0, program string, args, env []string) error {
	log, err := os.Create(filepath.Join(LogDir, argv0+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Args[0] = argv0
	cmd.Env = append([]string{marker, "PATH=" + os.Getenv("PATH"), "HOME=" + StateDir}, env...)
	cmd.Dir = StateDir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := inNetns(cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", argv0, err)
	}
	return cmd.Process.Release()
}

// inNetns runs do on a thread inside the node's network namespace. A process
// that do starts inherits it.
func inNetns(do func() error) error {
	failed := make(chan error)
	go func() {
		// Never unlocked: the runtime ends the thread together with the
		// goroutine, so nothing else ever runs in the namespace by accident.
		runtime.LockOSThread()
		if err := joinNetns(); err != nil {
			failed <- err
			return
		}
		failed <- do()
	}()
	return <-failed
}

// processes lists the cluster's own processes: those that carry the marker,
// and those in its cgroups.
func processes() []int {
	var pids []int
	self := os.Getpid()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == self {
			continue
		}
		if carriesMarker(pid) || inCgroup(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func carriesMarker(pid int) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if string(v) == marker {
			return true
		}
	}
	return false
}

func inCgroup(pid int) bool {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(groups)) {
		// "4:memory:/slipway-cluster/kubepods/..."
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && (f[2] == cgroupRoot || strings.HasPrefix(f[2], cgroupRoot+"/")) {
			return true
		}
	}
	return false
}

// endProcesses kills the cluster's processes until none is left. A killed
// container shim may leave a container behind that joins the list only then,
// so it looks again.
func endProcesses() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		pids := processes()
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end the cluster's processes: %v are still there after 30 s of SIGKILL", pids)
		}
		for _, pid := range pids {
			// One that is gone by now is what is wanted.
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
