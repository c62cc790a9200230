// Package operation carries out what kaniko does otherwise than BuildKit:
// COPY and ADD, making the folder of a WORKDIR, and RUN with another user, a
// here-document or a bind mount. The step prepare decides the operations with
// BuildKit's own front end ([github.com/slipway-ci/slipway/internal/frontend]),
// and the derived Dockerfile has in the place of each such instruction a RUN
// that calls this program. So kaniko unpacks base images, starts commands and
// packs what has changed, and BuildKit's own library copies the files.
package operation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/internal/buildcontext"
	"github.com/slipway-ci/slipway/internal/step"
)

// Operation is one thing to do in the file system of a stage. One of Copy,
// Mkdir, Exec and Keep is set.
type Operation struct {
	// Instruction names it for a person: "Dockerfile:7: COPY a b".
	Instruction string `json:"instruction"`

	Copy  *Copy  `json:"copy,omitempty"`
	Mkdir *Mkdir `json:"mkdir,omitempty"`
	Exec  *Exec  `json:"exec,omitempty"`
	Keep  *Keep  `json:"keep,omitempty"`
}

// World is where operations find what they read, the same for all of a build.
type World struct {
	Context string   `json:"context"`          // the folder of the build context
	Ignore  []string `json:"ignore,omitempty"` // the patterns of its ignore file
	Kept    string   `json:"kept"`             // a folder for what stages keep for others; RUN instructions can write there
	// Hidden are absolute paths, some patterns, that are in kaniko's container
	// and in no stage.
	Hidden []string `json:"hidden,omitempty"`
	// Ignored are more paths that kaniko neither packs nor removes, at a user's wish.
	Ignored []string `json:"ignored,omitempty"`
}

// files is the build context.
func (w World) files() *buildcontext.Context {
	return buildcontext.WithPatterns(w.Context, w.Ignore)
}

// Source is where files are copied from: the build context, unless one of the
// others is set.
type Source struct {
	Stage  string  `json:"stage,omitempty"` // a name as in [Keep]
	Inline *Inline `json:"inline,omitempty"`
	URL    *URL    `json:"url,omitempty"`
}

// Inline is a file that the Dockerfile itself holds, as a here-document.
type Inline struct {
	Name string `json:"name"` // in a folder of its own
	Mode uint32 `json:"mode"` // permission bits
	Data []byte `json:"data"`
}

// URL is a file to download.
type URL struct {
	URL      string `json:"url"`
	Name     string `json:"name"`               // of the file
	Checksum string `json:"checksum,omitempty"` // a digest such as sha256:…; "" for none
}

// Owner is a user and a group, each by name or by number; nil for the file's own.
type Owner struct {
	User  *Identity `json:"user,omitempty"`
	Group *Identity `json:"group,omitempty"`
}

// Identity is a user or a group.
type Identity struct {
	Name string `json:"name,omitempty"` // looked up in the stage's own /etc; "" for a number
	ID   uint32 `json:"id,omitempty"`
}

// Mkdir makes a folder and those above it that are missing.
type Mkdir struct {
	Path  string `json:"path"` // absolute
	Mode  uint32 `json:"mode"`
	Owner *Owner `json:"owner,omitempty"`
}

// files is the folder of the operations within that of the plan, and worldFile
// the name of the World's file there.
const (
	files     = "operations"
	worldFile = "world.json"
)

// Write leaves operations in the folder of the plan, each under its index.
func Write(dir string, world World, operations []Operation) error {
	folder := filepath.Join(dir, files)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write the operations: %w", err)
	}
	write := func(name string, value any) error {
		content, err := encode(value)
		if err != nil {
			return fmt.Errorf("write the operation %s: %w", name, err)
		}
		return step.WriteFile(filepath.Join(folder, name), content, 0o644)
	}
	if err := write(worldFile, world); err != nil {
		return err
	}
	for i, o := range operations {
		if err := write(strconv.Itoa(i)+".json", o); err != nil {
			return err
		}
	}
	return nil
}

// Encode returns the operations as they count as inputs of an image: without what
// is there for a layer cache alone.
func Encode(operations []Operation) (string, error) {
	counting := slices.Clone(operations)
	for i := range counting {
		if keep := counting[i].Keep; keep != nil {
			without := *keep
			without.Digest = false
			counting[i].Keep = &without
		}
	}
	content, err := encode(counting)
	return string(content), err
}

func encode(value any) ([]byte, error) {
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return content.Bytes(), err
}

// read reads what [Write] has left under a name.
func read(dir, name string, value any) error {
	content, err := os.ReadFile(filepath.Join(dir, files, name))
	if err == nil {
		err = json.Unmarshal(content, value)
	}
	if err != nil {
		return fmt.Errorf("read an operation of the step prepare: %w", err)
	}
	return nil
}

// DigestSign starts a digest in the place of an index: see [Main].
const DigestSign = "@"

// Main carries out operations as the process that a RUN instruction starts, and
// returns its exit code: that of the command for an Exec, 1 for an error, which
// it has printed. Where a signal ended the command it ends this process too.
//
// indices are those of operations, to be carried out in order. One that starts
// with [DigestSign] is a digest that only kaniko has use for, and [ClearSign]
// stands for [Clear].
func Main(ctx context.Context, dir string, indices []string, stdout, stderr io.Writer) int {
	var exit *exec.ExitError
	for _, index := range indices {
		if strings.HasPrefix(index, DigestSign) {
			continue
		}
		var err error
		if index == ClearSign {
			err = Clear(dir)
		} else {
			err = Run(ctx, dir, index, stdout, stderr)
		}
		if errors.As(err, &exit) {
			break
		}
		if err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
	}
	if exit == nil {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		signal.Reset(status.Signal())
		_ = syscall.Kill(os.Getpid(), status.Signal())
	}
	return max(exit.ExitCode(), 1)
}

// Run carries out the operation that the folder of the plan has under index. An
// error names the instruction; the exit status of an Exec's command comes back
// as an [exec.ExitError]. For an Exec without mounts it returns only with an
// error: the process becomes the command.
func Run(ctx context.Context, dir, index string, stdout, stderr io.Writer) error {
	var world World
	var o Operation
	if err := errors.Join(read(dir, worldFile, &world), read(dir, index+".json", &o)); err != nil {
		return err
	}
	if o.Exec == nil {
		unix.Umask(0) // the modes that are asked for are those that files get
		if err := os.MkdirAll(world.Kept, 0o755); err != nil {
			return err
		}
	}
	var err error
	switch {
	case o.Copy != nil:
		err = o.Copy.run(ctx, world)
	case o.Mkdir != nil:
		err = o.Mkdir.run(world)
	case o.Keep != nil:
		err = o.Keep.run(ctx, world)
	case o.Exec != nil:
		return o.Exec.run(ctx, world, o.Instruction, stdout, stderr)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o.Instruction, err)
	}
	return nil
}
