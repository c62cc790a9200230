package modules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"golang.org/x/mod/zip"

	"github.com/slipway-ci/slipway/internal/step"
)

// license is what a module in a folder has of the root where it has none itself:
// https://go.dev/ref/mod#vcs-license.
const license = "LICENSE"

// Limits of what is held in memory of a commit: trees can have the same folder
// again and again, and be larger than anything that was fetched.
const (
	maxEntries    = 200_000 // files and folders
	maxText       = 64 << 20
	maxAttributes = 1 << 20
)

// files are those of the module's folder, as git archive gives them to the go
// command. Which of them are the module's is [zip.Create]'s to know: nested
// modules, vendored packages and symbolic links are not.
func (r *release) files() ([]zip.File, error) {
	folder := r.tree
	if r.folder != "" {
		var err error
		if folder, err = r.tree.Tree(r.folder); err != nil {
			return nil, fmt.Errorf("folder %s: %w", r.folder, err)
		}
	}
	attributes := &attributes{tree: r.tree, rules: map[string][]rule{}}
	var files []zip.File
	licensed := r.folder == ""
	walker := object.NewTreeWalker(folder, true, nil)
	defer walker.Close()
	for entries := 0; ; entries++ {
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if entries == maxEntries {
			return nil, step.BadInput(fmt.Errorf("it has more than %d files and folders", maxEntries))
		}
		if err != nil {
			return nil, err
		}
		if entry.Mode == filemode.Dir || entry.Mode == filemode.Submodule {
			continue
		}
		f, err := r.file(name, entry)
		if err == nil && entry.Mode != filemode.Symlink {
			err = attributes.apply(path.Join(r.folder, name), f)
		}
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", name, err)
		}
		files = append(files, f)
		licensed = licensed || name == license
	}
	if entry, err := r.tree.FindEntry(license); err == nil && !licensed && entry.Mode.IsFile() {
		f, err := r.file(license, *entry)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", license, err)
		}
		f.mode = filemode.Regular // where it is a link, the go command takes its text
		files = append(files, f)
	}
	return files, nil
}

func (r *release) file(name string, entry object.TreeEntry) (*file, error) {
	size, err := r.store.EncodedObjectSize(entry.Hash)
	return &file{store: r.store, name: name, blob: entry.Hash, mode: entry.Mode, size: size}, err
}

// file is a file of a commit, as [zip.Create] takes it. Its content is on disk.
type file struct {
	store storer.EncodedObjectStorer
	name  string // in the module
	blob  plumbing.Hash
	mode  filemode.FileMode
	size  int64 // in bytes
	crlf  bool  // lines end in CR LF, whatever the blob has
}

func (f *file) content() (io.ReadCloser, error) {
	blob, err := object.GetBlob(f.store, f.blob)
	if err != nil {
		return nil, err
	}
	return blob.Reader()
}

func (f *file) text() ([]byte, error) {
	if f.size > maxText {
		return nil, step.BadInput(fmt.Errorf("its lines are to end in another way, and it is larger than %d bytes", maxText))
	}
	content, err := f.content()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(content)
}

// Open is its content as the module has it.
func (f *file) Open() (io.ReadCloser, error) {
	if !f.crlf {
		return f.content()
	}
	text, err := f.text()
	return io.NopCloser(bytes.NewReader(withCRLF(text))), err
}

// read is the content of a file of the module's folder. The error is
// [object.ErrFileNotFound] where there is none.
func (r *release) read(name string, limit int64) ([]byte, error) {
	f, err := r.tree.File(path.Join(r.folder, name))
	if err != nil {
		return nil, err
	}
	if f.Size > limit {
		return nil, step.BadInput(fmt.Errorf("its %s is larger than %d bytes", name, limit))
	}
	content, err := f.Contents()
	return []byte(content), err
}

func (f *file) Path() string                { return f.name }
func (f *file) Lstat() (fs.FileInfo, error) { return f, nil }
func (f *file) Name() string                { return path.Base(f.name) }
func (f *file) Size() int64                 { return f.size }
func (f *file) ModTime() time.Time          { return time.Time{} }
func (f *file) IsDir() bool                 { return false }
func (f *file) Sys() any                    { return nil }

func (f *file) Mode() fs.FileMode {
	if f.mode == filemode.Symlink {
		return fs.ModeSymlink | 0o777
	}
	return 0o644
}

// attributes are what .gitattributes files say of the ends of lines, as git
// archive heeds it: https://git-scm.com/docs/gitattributes. Of its other
// attributes the go command switches export-ignore and export-subst off, and the
// hashes in go.sum tell where one that is not known here is in use.
type attributes struct {
	tree  *object.Tree
	rules map[string][]rule // by folder
}

// rule is a line.
type rule struct {
	pattern []string // by folder
	is      []string // attributes
}

// apply makes a file end its lines as its attributes say (git's convert.c).
func (a *attributes) apply(name string, f *file) error {
	text, eol := "", ""
	set := func(attribute string) {
		switch attribute {
		case "text", "crlf":
			text = "true"
		case "-text", "-crlf", "binary":
			text = "false"
		case "text=auto":
			text = "auto"
		case "!text", "!crlf":
			text = ""
		case "eol=lf", "eol=crlf", "!eol":
			eol = strings.TrimPrefix(attribute, "eol=")
		}
	}
	elements := strings.Split(name, "/")
	for depth := range elements {
		rules, err := a.in(path.Join(elements[:depth]...))
		if err != nil {
			return err
		}
		for _, rule := range rules {
			if rule.matches(elements[depth:]) {
				for _, attribute := range rule.is {
					set(attribute)
				}
			}
		}
	}
	if eol != "crlf" || text == "false" {
		return nil
	}
	lines, err := f.text()
	if err != nil {
		return err
	}
	if text == "auto" && (bytes.Contains(lines, []byte("\r")) || bytes.Contains(lines, []byte{0})) {
		return nil
	}
	f.crlf, f.size = true, int64(len(withCRLF(lines)))
	return nil
}

// in are the rules that a folder's file has, for what is in the folder.
func (a *attributes) in(folder string) ([]rule, error) {
	if rules, known := a.rules[folder]; known {
		return rules, nil
	}
	a.rules[folder] = nil
	content, err := a.tree.File(path.Join(folder, ".gitattributes"))
	if errors.Is(err, object.ErrFileNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if content.Size > maxAttributes {
		return nil, step.BadInput(fmt.Errorf("%s is larger than %d bytes", path.Join(folder, ".gitattributes"), maxAttributes))
	}
	lines, err := content.Contents()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		pattern := strings.Split(strings.ReplaceAll(strings.TrimPrefix(fields[0], "/"), "[!", "[^"), "/")
		if !strings.Contains(fields[0], "/") {
			pattern = []string{"**", fields[0]}
		}
		a.rules[folder] = append(a.rules[folder], rule{pattern, fields[1:]})
	}
	return a.rules[folder], nil
}

// matches a path from the folder that has the rule.
func (r rule) matches(name []string) bool { return matches(r.pattern, name) }

// matches goes through the pattern once: what comes after a "**" is looked for
// behind each element, without trying all that others could be.
func matches(pattern, name []string) bool {
	// Where in name the pattern up to here can end.
	ends := make([]bool, len(name)+1)
	ends[0] = true
	for i, element := range pattern {
		next := make([]bool, len(name)+1)
		if element == "**" {
			last, reached := i == len(pattern)-1, false
			for at := range next {
				// The last one is for what is within, which is something.
				next[at] = reached || ends[at] && !last
				reached = reached || ends[at]
			}
		} else {
			for at, word := range name {
				ok, err := path.Match(element, word)
				next[at+1] = ends[at] && ok && err == nil
			}
		}
		ends = next
	}
	return ends[len(name)]
}

// withCRLF puts a CR before each LF that has none.
func withCRLF(text []byte) []byte {
	var out bytes.Buffer
	var last byte
	for _, b := range text {
		if b == '\n' && last != '\r' {
			out.WriteByte('\r')
		}
		out.WriteByte(b)
		last = b
	}
	return out.Bytes()
}
