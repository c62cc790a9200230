package prepare

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Host is what the step finds where it runs.
type Host struct {
	Executable string   // this program's own file
	Platform   string   // os/arch
	Mounts     []string // the absolute paths where something is mounted
	ReadOnly   []string // those of them that cannot be written
	Started    time.Time
}

// ThisHost looks around.
func ThisHost() (Host, error) {
	h := Host{Platform: runtime.GOOS + "/" + runtime.GOARCH, Started: time.Now()}
	var err error
	if h.Executable, err = os.Executable(); err != nil {
		return Host{}, fmt.Errorf("find this program's own file: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Host{}, fmt.Errorf("find what is mounted: %w", err)
	}
	h.Mounts, h.ReadOnly = mountPoints(string(mounts))
	return h, nil
}

// mountPoints are the fifth fields of mountinfo (proc_pid_mountinfo(5)), but
// for the root's. The sixth has the options.
func mountPoints(mountinfo string) (points, readOnly []string) {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[4] == "/" {
			continue
		}
		points = append(points, fields[4])
		if slices.Contains(strings.Split(fields[5], ","), "ro") {
			readOnly = append(readOnly, fields[4])
		}
	}
	return points, readOnly
}
