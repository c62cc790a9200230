package generate

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Case is a build: a Dockerfile in pieces that can be taken out one by one, its
// context, and the arguments of the build.
type Case struct {
	Seed      uint64
	Escape    string `json:",omitempty"` // "`" where a directive sets it; else empty, and it is a backslash
	CRLF      bool   `json:",omitempty"` // lines end as on Windows
	Globals   []Instruction
	Stages    []Stage
	Files     []File            // of the context, folders before what is in them
	Ignore    []string          // lines of .dockerignore; without any there is no such file
	BuildArgs map[string]string // by name
	Target    string            // a stage's name, or empty for the last
}

// Stage is a FROM and the instructions up to the next one.
type Stage struct {
	Base     string
	Name     string `json:",omitempty"`
	Platform string `json:",omitempty"`
	Lower    bool   `json:",omitempty"` // "from x as y"
	Body     []Instruction
}

// Instruction is one instruction, as it is written.
type Instruction struct {
	Name    string // in capitals
	OnBuild bool   `json:",omitempty"` // a trigger
	Lower   bool   `json:",omitempty"` // its name is in lower case
	Flags   []string
	Words   []string  // a RUN has its commands here
	Glue    string    `json:",omitempty"` // between two words, where it is not a blank
	JSON    bool      `json:",omitempty"` // the words are an array
	Keyword string    `json:",omitempty"` // CMD of a HEALTHCHECK
	Breaks  bool      `json:",omitempty"` // a line for each word
	Comment string    `json:",omitempty"` // above it
	Inside  string    `json:",omitempty"` // a comment between two of its lines
	Docs    []Heredoc `json:",omitempty"`
}

// Heredoc is an inline document, which a word of its instruction refers to.
type Heredoc struct {
	Name  string
	Quote string `json:",omitempty"` // around the name
	Chomp bool   `json:",omitempty"` // <<-
	Lines []string
}

// Kind is a file's.
type Kind string

// The kinds of files.
const (
	Regular  Kind = "file"
	Folder   Kind = "dir"
	Symlink  Kind = "symlink"
	Hardlink Kind = "hardlink" // in archives only
)

// File is a file of the context.
type File struct {
	Path    string
	Kind    Kind
	Mode    uint32   `json:",omitempty"` // with setuid, setgid and sticky as chmod has them
	Content string   `json:",omitempty"`
	Link    string   `json:",omitempty"`
	Archive *Archive `json:",omitempty"` // is the content where there is one
}

// marker is the word that refers to the document.
func (h Heredoc) marker() string {
	dash := ""
	if h.Chomp {
		dash = "-"
	}
	return "<<" + dash + h.Quote + h.Name + h.Quote
}

// Clone is a copy that shares nothing with c.
func (c *Case) Clone() *Case {
	data, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("encode a case: %v", err)) // of strings and numbers alone
	}
	var copied Case
	if err := json.Unmarshal(data, &copied); err != nil {
		panic(fmt.Sprintf("decode a case: %v", err))
	}
	return &copied
}

// Write makes dir/context, with the Dockerfile and .dockerignore in it, and beside it
// dir/context.json, which has the build args and the target for package oracle.
func (c *Case) Write(dir string) error {
	root := filepath.Join(dir, "context")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, f := range c.Files {
		if err := f.write(root); err != nil {
			return err
		}
	}
	// Modes come last, and a folder's after those of its files: it may be closed.
	for _, f := range slices.Backward(c.Files) {
		if f.Kind == Symlink {
			continue
		}
		if err := os.Chmod(filepath.Join(root, f.Path), fileMode(f.Mode)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "Dockerfile"), []byte(c.String()), 0o644); err != nil {
		return err
	}
	if len(c.Ignore) > 0 {
		lines := strings.Join(c.Ignore, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(root, ".dockerignore"), []byte(lines), 0o644); err != nil {
			return err
		}
	}
	about := map[string]any{"args": c.BuildArgs, "target": c.Target}
	data, err := json.MarshalIndent(about, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(root+".json", append(data, '\n'), 0o644)
}

// write makes the file, readable for its owner whatever its mode will be, and the
// folders above it where a shrunk case has lost them.
func (f File) write(root string) error {
	name := filepath.Join(root, f.Path)
	if err := os.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch f.Kind {
	case Folder:
		return os.MkdirAll(name, 0o755)
	case Symlink:
		return os.Symlink(f.Link, name)
	}
	content := []byte(f.Content)
	if f.Archive != nil {
		var err error
		if content, err = f.Archive.bytes(); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return os.WriteFile(name, content, 0o644)
}

// fileMode is a mode of chmod as package os has it.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= os.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= os.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= os.ModeSticky
	}
	return m
}
