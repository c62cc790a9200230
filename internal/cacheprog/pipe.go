package cacheprog

import (
	"os"
	"syscall"
)

// openPipe does not wait for a reader: without one it is an error. The user of
// a RUN can have put anything in the pipe's place.
func openPipe(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
}
