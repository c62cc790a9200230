package volume

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// container runs a program in a file system and with processes of its own, as a
// step of a pod does: kaniko removes the file system that it finds. Its root is
// in memory, and gone with its first process.
type container struct {
	Root    string // an empty folder
	Mounts  []mount
	Command []string
	Env     []string
	alone   bool // without a network
}

type mount struct {
	From, To string // a file or a folder
	ReadOnly bool
}

const containerVariable = "SLIPWAY_TEST_CONTAINER"

// TestMain is also the first process of a container, until that becomes the
// program itself.
func TestMain(m *testing.M) {
	if about, ok := os.LookupEnv(containerVariable); ok {
		fmt.Fprintln(os.Stderr, "container:", enter(about))
		os.Exit(125)
	}
	flag.Parse()
	os.Exit(m.Run())
}

func (c container) command(t *testing.T) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	about, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = []string{containerVariable + "=" + string(about)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if c.alone {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	return cmd
}

// enter only returns with an error.
func enter(about string) error {
	var c container
	if err := json.Unmarshal([]byte(about), &c); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the machine's mounts alone: %w", err)
	}
	if err := unix.Mount("tmpfs", c.Root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	for _, dir := range []string{"proc", "tmp", "root", "etc"} {
		if err := os.Mkdir(filepath.Join(c.Root, dir), 0o777); err != nil {
			return err
		}
	}
	// By this kaniko sees that it is in one.
	if err := os.WriteFile(filepath.Join(c.Root, ".dockerenv"), nil, 0o644); err != nil {
		return err
	}
	for _, m := range append(c.Mounts, mount{From: "/dev", To: "/dev"}) {
		if err := m.bind(c.Root); err != nil {
			return fmt.Errorf("mount %s: %w", m.To, err)
		}
	}
	if err := unix.Mount("proc", filepath.Join(c.Root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := errors.Join(unix.Chroot(c.Root), os.Chdir("/")); err != nil {
		return err
	}
	return syscall.Exec(c.Command[0], c.Command, c.Env)
}

func (m mount) bind(root string) error {
	info, err := os.Stat(m.From)
	if err != nil {
		return err
	}
	target := filepath.Join(root, m.To)
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, nil, 0o755))
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.From, target, "", unix.MS_BIND, ""); err != nil || !m.ReadOnly {
		return err
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}
