package operation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/sys/user"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/buildcontext"
)

// Exec is the command of a RUN.
type Exec struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`            // "NAME=value", all of it
	Pass []string `json:"pass,omitempty"` // names of variables that kaniko sets: secrets
	Dir  string   `json:"dir"`            // absolute
	User string   `json:"user,omitempty"` // as USER has it

	// Script is a here-document that is itself a program, which Args name.
	Script []byte  `json:"script,omitempty"`
	Mounts []Mount `json:"mounts,omitempty"`
}

// Mount shows files to a command. Without the right to mount, they are copied to
// where the command finds them, and removed when it has ended: what it writes
// there is lost, as with BuildKit's bind mounts that are writable.
type Mount struct {
	Target string  `json:"target"`           // absolute
	From   *Source `json:"from,omitempty"`   // nil for an empty folder: a tmpfs
	Path   string  `json:"path,omitempty"`   // in From, absolute
	Script bool    `json:"script,omitempty"` // the folder of the Exec's Script
}

// credential is who a command runs as.
type credential struct {
	uid, gid int
	groups   []int
	home     string
}

// find looks a user up by the rules of BuildKit's executor (executor/oci,
// GetUser) and of runc, which sets HOME.
func find(name string) (credential, error) {
	passwd, group := open("/etc/passwd"), open("/etc/group")
	defer passwd.Close()
	defer group.Close()
	if name == "" {
		name = "0"
	}
	first, second, both := strings.Cut(name, ":")
	uid, errUID := number(first)
	gid, errGID := number(second)
	c := credential{uid: uid, gid: gid}
	if !both || errUID != nil || errGID != nil {
		found, err := user.GetExecUser(name, nil, passwd, group)
		if err != nil {
			return c, fmt.Errorf("user %s: %w", name, err)
		}
		c.uid, c.gid, c.groups = found.Uid, found.Gid, found.Sgids
	}
	if !slices.Contains(c.groups, c.gid) {
		c.groups = append([]int{c.gid}, c.groups...)
	}
	c.home = "/"
	users, err := user.ParsePasswdFileFilter("/etc/passwd", func(u user.User) bool { return u.Uid == c.uid })
	if err != nil && !missing(err) {
		return c, err
	}
	if len(users) > 0 && users[0].Home != "" {
		c.home = users[0].Home
	}
	return c, nil
}

// number is the id that a user or a group is named by.
func number(name string) (int, error) {
	if name == "root" {
		return 0, nil
	}
	var id uint32
	if _, err := fmt.Sscanf(name, "%d", &id); err != nil || fmt.Sprint(id) != name {
		return 0, fmt.Errorf("%s is no number", name)
	}
	return int(id), nil
}

// open is a file, or an empty one where there is none.
func open(name string) io.ReadCloser {
	file, err := os.Open(name)
	if err != nil {
		return io.NopCloser(strings.NewReader(""))
	}
	return file
}

func (e *Exec) run(ctx context.Context, world World, instruction string, stdout, stderr io.Writer) (err error) {
	fail := func(err error) error { return fmt.Errorf("%s: %w", instruction, err) }
	if len(e.Mounts) == 0 {
		return fail(e.become(world))
	}
	if err := os.MkdirAll(world.Kept, 0o755); err != nil {
		return fail(err)
	}
	stage, err := newKeeper(world)
	if err != nil {
		return fail(err)
	}
	left := stage.leftBelow("/")
	for i := range left {
		left[i] = "/" + left[i]
	}
	var mounted []func() error
	unmount := func() error {
		var errs []error
		for _, undo := range slices.Backward(mounted) {
			errs = append(errs, undo())
		}
		return errors.Join(append(errs, stage.refresh(world, left))...)
	}
	for i, m := range e.Mounts {
		undo, err := m.show(ctx, world, e.Script, i)
		if err != nil {
			return fail(errors.Join(fmt.Errorf("mount %s: %w", m.Target, err), unmount()))
		}
		mounted = append(mounted, undo)
	}
	status, err := e.start(world, stdout, stderr)
	if err := errors.Join(err, unmount()); err != nil {
		return fail(err)
	}
	return status
}

// prepared is who the command runs as, its environment and its program, with
// the working directory made and entered.
func (e *Exec) prepared(world World) (who credential, env []string, program string, err error) {
	if who, err = find(e.User); err != nil {
		return who, nil, "", err
	}
	env = slices.Clone(e.Env)
	for _, name := range e.Pass {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	lookup := func(name string) (string, bool) {
		for _, entry := range slices.Backward(env) {
			if value, ok := strings.CutPrefix(entry, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
	if home, ok := lookup("HOME"); !ok || home == "" {
		env = append(slices.DeleteFunc(env, func(entry string) bool { return strings.HasPrefix(entry, "HOME=") }), "HOME="+who.home)
	}
	dir, err := continuity.RootPath(root, e.Dir)
	if err != nil {
		return who, nil, "", err
	}
	if err := makeFolders(world, dir, 0o755, &fscopy.User{UID: who.uid, GID: who.gid}); err != nil {
		return who, nil, "", fmt.Errorf("make the working directory: %w", err)
	}
	if err := os.Chdir(dir); err != nil {
		return who, nil, "", fmt.Errorf("enter the working directory: %w", err)
	}
	if len(e.Args) == 0 {
		return who, nil, "", errors.New("no command")
	}
	searched, _ := lookup("PATH")
	program, err = lookPath(e.Args[0], searched)
	return who, env, program, err
}

// lookPath finds a program as runc does, by the PATH of the command itself.
func lookPath(name, searched string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(searched) {
		if dir == "" {
			dir = "."
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// become turns this process into the command. It returns only with an error.
func (e *Exec) become(world World) error {
	who, env, program, err := e.prepared(world)
	if err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(who.groups), syscall.Setgid(who.gid), syscall.Setuid(who.uid)); err != nil {
		return fmt.Errorf("become the user %s: %w", e.User, err)
	}
	return &fs.PathError{Op: "exec", Path: program, Err: syscall.Exec(program, e.Args, env)}
}

// start runs the command. Its exit status comes back as an [exec.ExitError].
func (e *Exec) start(world World, stdout, stderr io.Writer) (status, err error) {
	who, env, program, err := e.prepared(world)
	if err != nil {
		return nil, err
	}
	groups := make([]uint32, len(who.groups))
	for i, id := range who.groups {
		groups[i] = uint32(id)
	}
	cmd := &exec.Cmd{
		Path: program, Args: e.Args, Env: env, Stdout: stdout, Stderr: stderr,
		SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid), Groups: groups}, Pdeathsig: syscall.SIGKILL},
	}
	err = cmd.Run()
	// What is mounted goes before what follows: nobody may be left who uses it.
	if err := os.Chdir("/"); err != nil {
		return nil, err
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit, nil
	}
	return nil, err
}

// show puts the files of a mount at its target. undo puts back what was there.
func (m *Mount) show(ctx context.Context, world World, script []byte, index int) (undo func() error, err error) {
	target, err := continuity.RootPath(root, m.Target)
	if err != nil {
		return nil, err
	}
	var steps []func() error
	undo = func() error {
		var errs []error
		for _, step := range slices.Backward(steps) {
			errs = append(errs, step())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, undo())
		}
	}()
	if _, err := os.Lstat(target); err == nil {
		aside := fmt.Sprintf("%s.slipway-%d", target, index)
		if err := os.Rename(target, aside); err != nil {
			return nil, err
		}
		steps = append(steps, func() error { return os.Rename(aside, target) })
	} else if made, err := fscopy.MkdirAll(path.Dir(target), 0o755, chowner(nil), nil); err != nil {
		return nil, err
	} else {
		steps = append(steps, func() error {
			for _, dir := range slices.Backward(made) {
				if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !missing(err) {
					return err // with files of the command's own the folder stays
				}
			}
			return nil
		})
	}
	steps = append(steps, func() error { return os.RemoveAll(target) })
	switch {
	case m.Script:
		if err := os.Mkdir(target, 0o755); err != nil {
			return nil, err
		}
		return undo, os.WriteFile(filepath.Join(target, path.Base(m.Path)), script, 0o755)
	case m.From == nil:
		if err := os.Mkdir(target, 0o777); err != nil {
			return nil, err
		}
		return undo, os.Chmod(target, 0o777|os.ModeSticky)
	}
	return undo, m.copy(ctx, world, target)
}

// copy brings what is mounted to target, which is not there.
func (m *Mount) copy(ctx context.Context, world World, target string) error {
	a := CopyAction{From: *m.From, Src: m.Path, Dest: target, FollowSymlink: true, DirContents: true}
	from, roots := world.Context, true
	var built *buildcontext.Context
	if m.From.Stage != "" {
		from, roots = filepath.Join(world.Kept, m.From.Stage), false
	} else {
		built = world.files()
	}
	if err := a.copy(ctx, from, root, built, nil, roots); err != nil {
		return err
	}
	source, err := continuity.RootPath(from, m.Path)
	if err != nil {
		return err
	}
	info, err := os.Stat(source)
	if err != nil || !info.IsDir() {
		return err
	}
	// The folder itself is shown, not only what is in it.
	if err := sameMetadata(source, target); err != nil || !roots {
		return err
	}
	return errors.Join(os.Lchown(target, 0, 0), os.Chmod(target, info.Mode()))
}
