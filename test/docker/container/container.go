// Package container runs a program as a step of a pod has it: with a root file
// system, mounts, processes, a user and capabilities of its own. The program
// enter beside it is the container's first process, until that becomes the
// program itself.
package container

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"syscall"
)

// Container is all that a program sees of its machine. Nothing of it is left
// when its first process has ended.
type Container struct {
	Root    string            // an empty folder that becomes its file system, in memory; "" for the machine's own
	Memory  string            // a folder that is in memory for it alone
	Files   map[string]string // what its image has
	Mounts  []Mount
	Command []string
	Env     []string

	Limited      bool // to the user and the capabilities below
	UID, GID     int
	Capabilities []string
	Escalation   bool // setuid programs work
}

// Mount is what a container has of the machine.
type Mount struct {
	From, To string // a file or a folder
	ReadOnly bool
}

// ExitNoContainer is the exit code where the program could not be started.
const ExitNoContainer = 125

// Start is the command that runs the container by enter, the built program of that folder.
func (c Container) Start(ctx context.Context, enter string) (*exec.Cmd, error) {
	about, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("describe the container: %w", err)
	}
	cmd := exec.CommandContext(ctx, enter, string(about))
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	return cmd, nil
}
