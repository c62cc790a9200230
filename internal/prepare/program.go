package prepare

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/slipway-ci/slipway/internal/inputs"
)

// programFor is where the build step finds this program.
func programFor(c *Config) string { return filepath.Join(c.Prepared, "bin", "prepare") }

// program is this program: copied for the build step, and an input of the image.
// Its file is large, and is read once for both, beside all else.
type program struct {
	done  chan struct{}
	input inputs.Input
	err   error
}

// copyProgram begins to copy.
func copyProgram(from, to string) *program {
	p := &program{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.input, p.err = copyFile(from, to)
	}()
	return p
}

// wait is for the end of the copy.
func (p *program) wait() (inputs.Input, error) {
	<-p.done
	return p.input, p.err
}

func copyFile(from, to string) (inputs.Input, error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return inputs.Input{}, err
	}
	source, err := os.Open(from)
	if err != nil {
		return inputs.Input{}, err
	}
	defer source.Close()
	copied, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return inputs.Input{}, err
	}
	input, err := inputs.OfProgram(io.TeeReader(source, copied))
	return input, errors.Join(err, copied.Close())
}
