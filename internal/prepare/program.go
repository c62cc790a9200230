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

// copyProgram copies this program for the build step, and is the input of the
// image that it is: its file is large, and is read once for both.
func copyProgram(from, to string) (inputs.Input, error) {
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
