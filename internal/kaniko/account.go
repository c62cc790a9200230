package kaniko

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// account is the pipe in which go commands say what they did. A file would
// hold the words of the last one only.
type account struct {
	pipe  *os.File
	count chan gocache.Compiled // closed without a count where there is none
}

// lastByte ends what is read: JSON has none such.
const lastByte = 0

// openAccount makes the pipe, for all users to write. Somebody reads it until
// it is closed, so that no go command ever waits.
func openAccount(path string) (*account, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := errors.Join(syscall.Mkfifo(path, 0o666), os.Chmod(path, 0o666)); err != nil {
		return nil, fmt.Errorf("make the pipe %s: %w", path, err)
	}
	// With both ends open neither side waits for the other to open.
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	a := &account{pipe, make(chan gocache.Compiled, 1)}
	go func() {
		defer io.Copy(io.Discard, pipe) //nolint:errcheck // until it is closed
		defer close(a.count)
		if count, err := gocache.ReadCompiled(&untilLastByte{Reader: pipe}); err == nil {
			a.count <- count
		}
	}()
	return a, nil
}

// withoutAccount is a file of Go's settings without what names the pipe: go
// commands fail that cannot write to it.
func withoutAccount(content, pipe string) string {
	var text strings.Builder
	for line := range strings.Lines(content) {
		flags, isFlags := strings.CutPrefix(line, "GOFLAGS=")
		switch {
		case !strings.Contains(line, pipe):
			text.WriteString(line)
		case isFlags:
			text.WriteString("GOFLAGS=" + strings.TrimSpace(strings.Replace(flags, "-debug-actiongraph="+pipe, "", 1)) + "\n")
		}
	}
	return text.String()
}

type untilLastByte struct {
	io.Reader
	ended bool
}

func (r *untilLastByte) Read(p []byte) (int, error) {
	if r.ended {
		return 0, io.EOF
	}
	n, err := r.Reader.Read(p)
	if i := bytes.IndexByte(p[:n], lastByte); i >= 0 {
		r.ended = true
		return i, io.EOF
	}
	return n, err
}

// close returns the count; !ok if there is none. All who could write to the pipe
// have ended.
func (a *account) close() (count gocache.Compiled, ok bool, err error) {
	defer a.pipe.Close()
	if err := a.pipe.SetDeadline(time.Now().Add(grace)); err != nil {
		return count, false, err
	}
	if _, err := a.pipe.Write([]byte{lastByte}); err != nil {
		return count, false, err
	}
	count, ok = <-a.count
	return count, ok, nil
}

// leave writes the count, if there is one, where the step push reads it.
func (a *account) leave(p *plan.Plan) error {
	count, ok, err := a.close()
	if err != nil || !ok {
		return err
	}
	content, err := json.Marshal(count)
	if err != nil {
		return err
	}
	return leave(p.Compiled, content)
}

// leave writes a file for the step push.
func leave(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return step.WriteFile(path, content, 0o644)
}

// countModules leaves the number of modules that came into the module cache
// since the build started where the step push reads it.
func countModules(p *plan.Plan, stderr io.Writer) {
	if p.Modules == "" {
		return
	}
	count, err := gocache.Downloaded(p.Modules, p.Started)
	if err == nil {
		err = leave(p.Downloaded, strconv.AppendInt(nil, int64(count), 10))
	}
	if err != nil {
		fmt.Fprintf(stderr, "how many modules were downloaded is not known: %v\n", err)
	}
}
