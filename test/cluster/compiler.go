package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// compilerPackages are Debian's C compiler with all it runs, and what programs
// are compiled and linked with.
var compilerPackages = []string{
	"gcc", "gcc-12", "cpp-12", "libgcc-12-dev", "libgcc-s1", "libgmp10", "libisl23", "libmpc3", "libmpfr6",
	"binutils", "binutils-x86-64-linux-gnu", "libbinutils", "libctf-nobfd0", "libctf0", "libjansson4", "libzstd1", "zlib1g",
	"libc6", "libc6-dev", "linux-libc-dev",
}

// compiler adds the files of Debian's C compiler as they are on this machine.
func compiler(ctx context.Context, l *layer) error {
	out, err := exec.CommandContext(ctx, "dpkg-query", append([]string{"-L"}, compilerPackages...)...).Output()
	if err != nil {
		return fmt.Errorf("list the files of the C compiler's packages: %w", err)
	}
	for file := range strings.Lines(string(out)) {
		file = strings.TrimSpace(file)
		// Debian's /lib is a link to /usr/lib.
		dir, err := filepath.EvalSymlinks(filepath.Dir(file))
		if err != nil {
			continue // a line of dpkg's own
		}
		file = filepath.Join(dir, filepath.Base(file))
		info, err := os.Lstat(file)
		switch {
		case strings.HasPrefix(file, "/usr/share/"), filepath.Base(file) == "lto1":
			// Not needed to compile, and half as much again.
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			l.link(file, target)
		case info.Mode().IsRegular():
			l.file(file, int64(info.Mode().Perm()), file)
		}
	}
	return nil
}
