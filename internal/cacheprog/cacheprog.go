// Package cacheprog stands between go commands and their build cache, where
// nothing else can tell what they compile: it serves GOCACHE as a program that
// GOCACHEPROG names (since Go 1.24; the protocol is that of
// cmd/go/internal/cacheprog) and writes what became of each package to the pipe
// that go commands' action graphs go to.
//
// It is for builds whose Dockerfile sets GOFLAGS, in place of the flag that has
// go commands write action graphs. Elsewhere that flag is used, since go
// commands do more by themselves than through a program: they fail when it is
// killed, and they keep the programs of "go run" and "go tool" in their own
// cache only. The count is the same both ways: a package is an action that has
// a compiled package as its output.
package cacheprog

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/cache"
)

// request and response are those of the protocol. The body of a request that
// puts follows it as a JSON string of base64.
type request struct {
	ID       int64
	Command  string
	ActionID []byte
	OutputID []byte
	BodySize int64
}

type response struct {
	ID            int64
	Err           string     `json:",omitempty"`
	KnownCommands []string   `json:",omitempty"`
	Miss          bool       `json:",omitempty"`
	OutputID      []byte     `json:",omitempty"`
	Size          int64      `json:",omitempty"`
	Time          *time.Time `json:",omitempty"`
	DiskPath      string     `json:",omitempty"`
}

// Serve answers a go command's requests from dir, a GOCACHE in Go's own layout,
// until the go command closes the cache or ends. pipe is where the account of
// it goes; that it cannot be written is nothing that anybody is told.
//
// What is damaged in the cache is a miss, and is written anew when it has been
// compiled: go commands themselves look at sizes only.
func Serve(dir, pipe string, in io.Reader, out io.Writer) error {
	disk, err := cache.Open(dir)
	if err != nil {
		return err // Go looks at the folder before it starts us, and is gone
	}
	s := &server{disk: disk, out: json.NewEncoder(out), packages: map[cache.ActionID]bool{}}
	if err := s.reply(response{KnownCommands: []string{"get", "put", "close"}}); err != nil {
		return err
	}
	closing, err := s.serve(bufio.NewReader(in))
	report(pipe, s.packages)
	if err != nil || closing == nil {
		return err
	}
	_ = disk.Trim() // as go commands do when they have used their cache
	return s.reply(response{ID: closing.ID})
}

type server struct {
	disk *cache.Cache

	mu       sync.Mutex
	out      *json.Encoder
	packages map[cache.ActionID]bool // whether it was compiled
}

// serve returns the request to close; none if the go command ended without one.
func (s *server) serve(in *bufio.Reader) (*request, error) {
	var gets sync.WaitGroup
	defer gets.Wait()
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("a go command's request: %w", err)
		}
		switch r.Command {
		case "get":
			gets.Go(func() { _ = s.reply(s.get(r)) })
		case "put":
			// One after the other, for the sake of memory.
			body, err := readBody(in, r.BodySize)
			if err != nil {
				return nil, fmt.Errorf("a go command's output: %w", err)
			}
			if err := s.reply(s.put(r, body)); err != nil {
				return nil, err
			}
		case "close":
			return &r, nil
		default:
			return nil, fmt.Errorf("a go command wants %q, which it was not offered", r.Command)
		}
	}
}

func (s *server) reply(r response) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Encode(r)
}

// readBody reads a string of base64 that stands for size bytes.
func readBody(in *bufio.Reader, size int64) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	if _, err := in.ReadBytes('"'); err != nil {
		return nil, err
	}
	encoded := io.LimitReader(in, int64(base64.StdEncoding.EncodedLen(int(size))))
	body := make([]byte, size)
	if _, err := io.ReadFull(base64.NewDecoder(base64.StdEncoding, encoded), body); err != nil {
		return nil, err
	}
	_, err := in.ReadBytes('"')
	return body, err
}

func (s *server) get(r request) response {
	miss := response{ID: r.ID, Miss: true}
	action := actionID(r)
	entry, err := s.disk.Get(action)
	if err != nil {
		return miss
	}
	path := s.disk.OutputFile(entry.OutputID)
	file, err := os.Open(path)
	if err != nil {
		return miss
	}
	defer file.Close()
	start, hash := make([]byte, len(archive)), sha256.New()
	n, err := io.ReadFull(file, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return miss
	}
	hash.Write(start[:n])
	if _, err := io.Copy(hash, file); err != nil || !bytes.Equal(hash.Sum(nil), entry.OutputID[:]) {
		return miss
	}
	s.note(action, start[:n], false)
	return response{ID: r.ID, OutputID: entry.OutputID[:], Size: entry.Size, Time: &entry.Time, DiskPath: path}
}

func (s *server) put(r request, body []byte) response {
	action := actionID(r)
	s.note(action, body, true)
	output, size, err := s.disk.Put(action, bytes.NewReader(body))
	if err != nil {
		return response{ID: r.ID, Err: err.Error()} // the go command goes on, as with a cache of its own
	}
	return response{ID: r.ID, OutputID: output[:], Size: size, DiskPath: s.disk.OutputFile(output)}
}

func actionID(r request) (id cache.ActionID) {
	copy(id[:], r.ActionID)
	return id
}

// archive is how a compiled package begins (cmd/compile/internal/gc/obj.go).
const archive = "!<arch>\n__.PKGDEF"

func (s *server) note(action cache.ActionID, output []byte, compiled bool) {
	if !bytes.HasPrefix(output, []byte(archive)) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packages[action] = s.packages[action] || compiled
}

// atOnce is how much is written to a pipe in one piece, whoever else writes to
// it: PIPE_BUF of pipe(7).
const atOnce = 4096

// reportFor bounds the time that a go command waits for its account to be
// written: somebody reads the pipe all the time.
const reportFor = time.Second

// report writes what became of packages, in the form of action graphs
// (actionJSON in cmd/go/internal/work/action.go): arrays that are each written
// in one piece.
func report(pipe string, packages map[cache.ActionID]bool) {
	file, err := openPipe(pipe)
	if err != nil {
		return
	}
	defer file.Close()
	if err := file.SetWriteDeadline(time.Now().Add(reportFor)); err != nil {
		return
	}
	var actions []string
	size := len("[]\n")
	flush := func() {
		if len(actions) > 0 {
			_, err = io.WriteString(file, "["+strings.Join(actions, ",")+"]\n")
		}
		actions, size = nil, len("[]\n")
	}
	for id, compiled := range packages {
		command := ""
		if compiled {
			command = `,"Cmd":["compile"]`
		}
		// As cmd/internal/buildid.HashToString has it.
		action := `{"Mode":"build","ActionID":"` + base64.RawURLEncoding.EncodeToString(id[:15]) + `"` + command + `}`
		if size+len(action)+1 > atOnce {
			flush()
		}
		if err != nil {
			return
		}
		actions, size = append(actions, action), size+len(action)+1
	}
	flush()
}
