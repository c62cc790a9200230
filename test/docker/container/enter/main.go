// Command enter becomes a program in a container. Whoever starts it gives it new
// namespaces for mounts and processes. Its one argument is a
// [container.Container] in JSON.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/test/docker/container"
)

func main() {
	fmt.Fprintln(os.Stderr, "enter:", become(os.Args[1:]))
	os.Exit(container.ExitNoContainer)
}

// become only returns with an error.
func become(args []string) error {
	if len(args) != 1 {
		return errors.New("want one argument, the container in JSON")
	}
	var c container.Container
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return fmt.Errorf("read the argument: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the machine's mounts alone: %w", err)
	}
	if c.Memory != "" {
		if err := unix.Mount("tmpfs", c.Memory, "tmpfs", 0, "mode=700"); err != nil {
			return fmt.Errorf("mount %s: %w", c.Memory, err)
		}
	}
	if c.Root != "" {
		if err := enter(c); err != nil {
			return err
		}
	} else if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if c.Limited {
		if err := limit(c); err != nil {
			return err
		}
	}
	if err := syscall.Exec(c.Command[0], c.Command, c.Env); err != nil {
		return fmt.Errorf("start %s: %w", c.Command[0], err)
	}
	return nil
}

// enter makes the root file system and goes there.
func enter(c container.Container) error {
	if err := unix.Mount("tmpfs", c.Root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	for _, dir := range []string{"proc", "sys", "dev"} {
		if err := os.Mkdir(filepath.Join(c.Root, dir), 0o755); err != nil {
			return err
		}
	}
	for path, content := range c.Files {
		inside := filepath.Join(c.Root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(inside), 0o755), os.WriteFile(inside, []byte(content), 0o644)); err != nil {
			return err
		}
	}
	// What lies in another mount comes after it.
	slices.SortFunc(c.Mounts, func(a, b container.Mount) int { return strings.Compare(a.To, b.To) })
	for _, m := range c.Mounts {
		if err := bind(m, c.Root); err != nil {
			return fmt.Errorf("mount %s: %w", m.To, err)
		}
	}
	if err := unix.Mount("proc", filepath.Join(c.Root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("sysfs", filepath.Join(c.Root, "sys"), "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := devices(filepath.Join(c.Root, "dev")); err != nil {
		return fmt.Errorf("make /dev: %w", err)
	}
	if err := errors.Join(unix.Chroot(c.Root), os.Chdir("/")); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	return nil
}

func bind(m container.Mount, root string) error {
	info, err := os.Stat(m.From)
	if err != nil {
		return err
	}
	target := filepath.Join(root, m.To)
	switch _, missing := os.Lstat(target); {
	case missing == nil:
	case info.IsDir():
		err = os.MkdirAll(target, 0o755)
	default:
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

// devices makes what a container runtime has in /dev, of the machine's own
// devices: none of them can be removed there.
func devices(dev string) error {
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=755,size=64k"); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bind(container.Mount{From: "/dev/" + name, To: name}, dev); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := os.Mkdir(shm, 0o755); err != nil {
		return err
	}
	return unix.Mount("tmpfs", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m")
}

// capabilities are those that tasks/*.yaml name.
var capabilities = map[string]uintptr{
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "FOWNER": unix.CAP_FOWNER, "FSETID": unix.CAP_FSETID,
	"SETFCAP": unix.CAP_SETFCAP, "SETGID": unix.CAP_SETGID, "SETUID": unix.CAP_SETUID, "KILL": unix.CAP_KILL, "SYS_CHROOT": unix.CAP_SYS_CHROOT,
	"MKNOD": unix.CAP_MKNOD, "NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "NET_RAW": unix.CAP_NET_RAW, "SETPCAP": unix.CAP_SETPCAP,
	"AUDIT_WRITE": unix.CAP_AUDIT_WRITE,
}

// limit takes the capabilities away that the container does not have, and
// becomes its user.
func limit(c container.Container) error {
	var keep [2]uint32
	for _, name := range c.Capabilities {
		number, ok := capabilities[name]
		if !ok {
			return fmt.Errorf("capability %s: its number is not known here; add it to test/docker/container/enter", name)
		}
		keep[number/32] |= 1 << (number % 32)
	}
	for number := range uintptr(unix.CAP_LAST_CAP + 1) {
		if keep[number/32]&(1<<(number%32)) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", number, err)
		}
	}
	if !c.Escalation {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	// As containerd has it where the image knows no more groups of the user.
	if err := errors.Join(syscall.Setgroups([]int{c.GID}), syscall.Setgid(c.GID)); err != nil {
		return fmt.Errorf("set the groups: %w", err)
	}
	if c.UID != 0 {
		return syscall.Setuid(c.UID) // root's capabilities end with it
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for n, bits := range keep {
		data[n] = unix.CapUserData{Effective: bits, Permitted: bits, Inheritable: 0}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set the capabilities: %w", err)
	}
	return nil
}
