package kaniko

import (
	"bytes"
	"io"
	"regexp"
)

// lastWord holds back the line in which kaniko says that it failed, while
// everything else passes through at once. Where that line says no more than
// that a RUN instruction's command failed, it is dropped: then the command's
// own words are the last, and they say why.
type lastWord struct {
	out  io.Writer
	held []byte // the start of a line that is, or may become, the one to hold
	mid  bool   // the line that is being written has been let through
}

// verdict starts the line (cmd/executor/cmd/root.go, exit).
var verdict = []byte("error building image: ")

// commandFailed is the verdict that tells nothing new.
var commandFailed = regexp.MustCompile(`^error building image: .*: waiting for process to exit: exit status \d+\n?$`)

func (w *lastWord) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		if err := w.write(rest[:end]); err != nil {
			return 0, err
		}
		rest = rest[end:]
	}
	return len(p), nil
}

// write takes a line, or a part of one.
func (w *lastWord) write(part []byte) error {
	if bytes.HasSuffix(w.held, []byte("\n")) {
		// It was not the last word after all.
		if err := w.flush(); err != nil {
			return err
		}
	}
	if !w.mid {
		w.held = append(w.held, part...)
		if n := min(len(w.held), len(verdict)); bytes.Equal(w.held[:n], verdict[:n]) {
			return nil
		}
		part, w.held = w.held, nil
	}
	w.mid = !bytes.HasSuffix(part, []byte("\n"))
	_, err := w.out.Write(part)
	return err
}

func (w *lastWord) flush() error {
	held := w.held
	w.held = nil
	if len(held) == 0 {
		return nil
	}
	_, err := w.out.Write(held)
	return err
}

// Close lets through what is held back, unless it is not worth it.
func (w *lastWord) Close() error {
	if commandFailed.Match(w.held) {
		w.held = nil
	}
	return w.flush()
}
