package volume

import (
	"context"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// mountWithoutLocks shows a folder as a network file system without locks would
// show it: everything works but flock and fcntl's locks.
func mountWithoutLocks(t *testing.T, volume, behind string) {
	t.Helper()
	if err := unix.Mount(volume, behind, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(behind, unix.MNT_DETACH) })
	root, err := fs.NewLoopbackRoot(behind)
	if err != nil {
		t.Fatal(err)
	}
	server, err := fs.Mount(volume, &withoutLocks{root.(*fs.LoopbackNode)}, &fs.Options{MountOptions: fuse.MountOptions{
		AllowOther:        true,
		EnableLocks:       true, // it is asked for locks, in place of the kernel
		DirectMountStrict: true,
		DirectMountFlags:  unix.MS_NODEV,
		Options:           []string{"default_permissions"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Unmount() })
}

// withoutLocks is a file or folder of such a file system.
type withoutLocks struct{ *fs.LoopbackNode }

func (*withoutLocks) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &withoutLocks{child.(*fs.LoopbackNode)}
}

func (*withoutLocks) Getlk(context.Context, fs.FileHandle, uint64, *fuse.FileLock, uint32, *fuse.FileLock) syscall.Errno {
	return syscall.ENOLCK
}

func (*withoutLocks) Setlk(context.Context, fs.FileHandle, uint64, *fuse.FileLock, uint32) syscall.Errno {
	return syscall.ENOLCK
}

func (*withoutLocks) Setlkw(context.Context, fs.FileHandle, uint64, *fuse.FileLock, uint32) syscall.Errno {
	return syscall.ENOLCK
}
