// Command recorder tells what a process is given: /bin/record in the base images
// of the tests. It writes to its output
//
//	RUN ["/bin/record", "an argument"]
//	RUN /bin/record >> /rec/1
//
// or, as a SHELL, to the file /rec/runs before it becomes that shell:
//
//	SHELL ["/bin/record", "sh", "-c"]
//
// Where it is called by another name, such as that of a shell, or with -only, it
// writes that file and runs nothing. With -make it makes what is not there yet,
// and list=/PATH has what is there told of too, such as the target of a mount:
//
//	RUN ["/bin/record", "-make", "user=app", "file=/app/main", "folder=/app/static"]
//
// With -mounts it lists what is mounted too, and each -list FOLDER adds the
// files below a folder, such as the target of a RUN --mount.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// harmless are the variables that say nothing of a build, with the reason. A
// name that ends with _ stands for all that begin with it.
var harmless = map[string]string{
	"HOSTNAME":      "a name of the container's, which neither builder promises",
	"OTEL_":         "BuildKit's own, for programs that tell it what their time goes to",
	"TRACEPARENT":   "the same",
	"TRACESTATE":    "the same",
	"SSH_AUTH_SOCK": "of RUN --mount=type=ssh, which has no effect with Slipway; its log says so",
	"_":             "a shell's own note of the program's path",
}

func isHarmless(name string) bool {
	for known := range harmless {
		if name == known || known != "_" && strings.HasSuffix(known, "_") && strings.HasPrefix(name, known) {
			return true
		}
	}
	return false
}

// ownMounts are mount points that each container has, or a build pod, with the
// reason. What is below them counts as they do.
var ownMounts = map[string]string{
	"/":                "the root",
	"/proc":            "of the container runtime",
	"/sys":             "of the container runtime",
	"/dev":             "of the container runtime",
	"/etc/hosts":       "of the container runtime",
	"/etc/hostname":    "of the container runtime",
	"/etc/resolv.conf": "of the container runtime",
	"/workspace":       "of Tekton",
	"/tekton":          "of Tekton",
	"/slipway":         "of the build task",
	"/slipway-built":   "of the build task",
	"/slipway-secrets": "of the build task",
	"/kaniko":          "of kaniko's image",
	"/var/run/secrets": "of the kubelet",
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	argv := slices.Clone(os.Args)
	switch {
	case len(args) > 0 && args[0] == "-make":
		return makeAll(args[1:])
	case filepath.Base(argv[0]) != "record" || len(args) > 0 && args[0] == "-only":
		return standIn(argv)
	}
	var listed []string
	mounts := false
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-mounts":
			mounts, args = true, args[1:]
		case args[0] == "-list" && len(args) > 1:
			listed, args = append(listed, args[1]), args[2:]
		default:
			return fmt.Errorf("%s: the options are -mounts and -list FOLDER", args[0])
		}
	}
	var about strings.Builder
	if err := record(&about, argv, mounts, listed); err != nil {
		return err
	}
	if len(args) < 2 {
		_, err := io.WriteString(os.Stdout, about.String())
		return err
	}
	shell, err := exec.LookPath(args[0])
	if err != nil {
		// No shell was meant: these are arguments.
		_, err := io.WriteString(os.Stdout, about.String())
		return err
	}
	if err := appendTo("/rec/runs", about.String()); err != nil {
		return err
	}
	if len(args) == 2 && args[0] == "sh" {
		args = []string{args[0], "-c", args[1]}
	}
	return syscall.Exec(shell, args, os.Environ())
}

// standIn records what a program is given that is not there.
func standIn(argv []string) error {
	var about strings.Builder
	if err := record(&about, argv, false, nil); err != nil {
		return err
	}
	for _, arg := range argv[1:] {
		if strings.HasPrefix(arg, "/dev/pipes/") {
			script, err := os.ReadFile(arg)
			if err != nil {
				return err
			}
			fmt.Fprintf(&about, "script: %q\n", script)
		}
	}
	listed, err := os.ReadFile("/rec/listed")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	roots := strings.Fields(string(listed))
	if dir, err := os.Getwd(); err == nil && dir != "/" {
		roots = append(roots, dir)
	}
	for _, root := range roots {
		if _, err := os.Lstat(root); err != nil {
			continue
		}
		if err := list(&about, root); err != nil {
			return err
		}
	}
	// Where a build pod has a mount, a stage has another folder.
	return appendTo("/rec/runs", strings.ReplaceAll(about.String(), "/slipway-workspace", "/workspace"))
}

// firstMade is the id of the first user that makeAll makes.
const firstMade = 2000

// makeAll makes users, files and folders.
func makeAll(args []string) error {
	for n, arg := range args {
		kind, name, _ := strings.Cut(arg, "=")
		var err error
		switch kind {
		case "user":
			if err = appendTo("/etc/passwd", fmt.Sprintf("%s:x:%d:%d::/home/%s:/bin/sh\n", name, firstMade+n, firstMade+n, name)); err == nil {
				err = appendTo("/etc/group", fmt.Sprintf("%s:x:%d:\n", name, firstMade+n))
			}
		case "list":
			err = appendTo("/rec/listed", name+"\n")
		case "folder":
			if _, err = os.Stat(name); err != nil {
				if err = os.MkdirAll(name, 0o755); err == nil {
					err = os.WriteFile(filepath.Join(name, "made"), []byte(name+"\n"), 0o644)
				}
			}
		case "file":
			if _, err = os.Stat(name); err != nil {
				if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
					err = os.WriteFile(name, []byte(name+"\n"), 0o755)
				}
			}
		default:
			err = fmt.Errorf("%s: it makes user=, file= and folder=, and takes list=", arg)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// appendTo writes a file that whichever user comes next can write too.
func appendTo(name, text string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() == 0 {
		if err := file.Chmod(0o666); err != nil {
			return err
		}
	}
	_, err = file.WriteString(text)
	return err
}

func record(w io.Writer, argv []string, mounts bool, listed []string) error {
	for n, arg := range argv {
		fmt.Fprintf(w, "argv[%d]: %q\n", n, arg)
	}
	environment := os.Environ()
	slices.Sort(environment)
	for _, variable := range environment {
		if name, _, _ := strings.Cut(variable, "="); !isHarmless(name) {
			fmt.Fprintf(w, "env: %q\n", variable)
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	slices.Sort(groups)
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	fmt.Fprintf(w, "cwd: %s\nuid: %d\ngid: %d\ngroups: %v\numask: %04o\n", dir, os.Getuid(), os.Getgid(), groups, mask)
	if mounts {
		if err := listMounts(w); err != nil {
			return err
		}
	}
	for _, root := range listed {
		if err := list(w, root); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	return nil
}

func listMounts(w io.Writer) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && !own(fields[4]) {
			fmt.Fprintf(w, "mount: %s\n", fields[4])
		}
	}
	return nil
}

func own(mount string) bool {
	for at := range ownMounts {
		if mount == at || at != "/" && strings.HasPrefix(mount, at+"/") {
			return true
		}
	}
	return false
}

func list(w io.Writer, root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if path == "/go/pkg" {
			return fs.SkipDir // the build task's module cache
		}
		if err != nil {
			fmt.Fprintf(w, "list: %s: %v\n", path, err)
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		size := info.Size()
		if entry.IsDir() {
			size = 0 // a matter of the file system
		}
		fmt.Fprintf(w, "list: %s %s %d:%d %d\n", path, info.Mode(), owner.Uid, owner.Gid, size)
		return nil
	})
}
