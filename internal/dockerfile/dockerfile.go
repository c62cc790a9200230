// Package dockerfile reads a Dockerfile, checks it and derives the one that
// kaniko builds: base images by digest, and no file copied to where the build
// pod has something mounted.
//
// It reads with BuildKit's parser, the one kaniko uses. A derived Dockerfile is
// the user's own text, edited in place: comments, line continuations, heredocs,
// parser directives and line ends stay as they were.
package dockerfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Error is a finding in a Dockerfile, the user's to mend.
type Error struct {
	Name    string // the file, as given to [Parse]
	Line    int    // 1 is the first; 0 for a finding about no line
	Problem string
	Fix     string // what to do about it; may be empty
}

// Error is "Dockerfile:7: problem; fix".
func (e *Error) Error() string {
	text := e.Name + ": " + e.Problem
	if e.Line > 0 {
		text = fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Problem)
	}
	if e.Fix != "" {
		text += "; " + e.Fix
	}
	return text
}

// File is a Dockerfile that parses and has at least one stage.
type File struct {
	name    string
	mark    []byte // the byte order mark, or nothing
	source  []byte // what follows the mark
	escape  rune   // of the escape directive
	globals []*instruction
	stages  []*stage
}

// stage is a FROM and what follows it up to the next.
type stage struct {
	*instructions.Stage
	from *instruction
	body []*instruction
}

// instruction is one instruction with the places of its words in the source.
type instruction struct {
	words
	command  any // the instructions package's type for it
	heredocs []parser.Heredoc
	flags    []string     // unquoted, in the order of words.flags
	line     int          // its first
	end      int          // its last, heredocs included
	trigger  *instruction // what an ONBUILD holds

	isForeign bool // of a base image's ONBUILD: not in the source
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// Parse reads a Dockerfile; name stands for it in errors. What is wrong with
// its syntax comes back as an [Error].
func Parse(name string, content []byte) (*File, error) {
	f := &File{name: name, source: content}
	if rest, ok := bytes.CutPrefix(content, byteOrderMark); ok {
		f.mark, f.source = byteOrderMark, rest
	}
	if err := f.checkLines(); err != nil {
		return nil, err
	}
	result, err := parser.Parse(bytes.NewReader(f.source))
	if err != nil {
		if len(bytes.TrimSpace(f.source)) == 0 {
			return nil, f.errorAt(0, "the file is empty", "start it with FROM")
		}
		return nil, f.syntaxError(err, 0)
	}
	f.escape = result.EscapeToken
	source := newSource(f.source, f.escape)
	for _, node := range result.AST.Children {
		i, err := f.instruction(node, source.join(node.StartLine))
		if err != nil {
			return nil, err
		}
		if s, ok := i.command.(*instructions.Stage); ok {
			f.stages = append(f.stages, &stage{Stage: s, from: i})
			continue
		}
		if len(f.stages) > 0 {
			last := f.stages[len(f.stages)-1]
			last.body = append(last.body, i)
			continue
		}
		if _, ok := i.command.(*instructions.ArgCommand); !ok {
			return nil, f.errorAt(i.line, strings.ToUpper(node.Value)+" before the first FROM", "only ARG may stand there")
		}
		f.globals = append(f.globals, i)
	}
	if len(f.stages) == 0 {
		return nil, f.errorAt(0, "no FROM", "name the image to build on with FROM")
	}
	return f, nil
}

// instruction types a parsed node and finds its words in text.
func (f *File) instruction(node *parser.Node, text joined) (*instruction, error) {
	// A linter, though a silent one: without, a check=skip comment panics.
	command, err := instructions.ParseInstructionWithLinter(node, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return nil, f.syntaxError(err, node.StartLine)
	}
	i := &instruction{
		words:    split(node, text, f.escape),
		command:  command,
		heredocs: node.Heredocs,
		flags:    node.Flags,
		line:     node.StartLine,
		end:      node.EndLine,
	}
	if _, ok := command.(*instructions.OnbuildCommand); ok {
		// The parser leaves an ONBUILD's instruction without its place and heredocs.
		inner := *node.Next.Children[0]
		inner.StartLine, inner.EndLine, inner.Heredocs = node.StartLine, node.EndLine, node.Heredocs
		if i.trigger, err = f.instruction(&inner, text.cut(i.rest)); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// checkLines finds what the parser reports without its line.
func (f *File) checkLines() error {
	var directives parser.DirectiveParser
	n := 0
	for line := range bytes.Lines(f.source) {
		n++
		if len(line) > bufio.MaxScanTokenSize {
			return f.errorAt(n, fmt.Sprintf("the line is longer than %d bytes", bufio.MaxScanTokenSize), "break it with a line continuation")
		}
		d, err := directives.ParseLine(bytes.TrimSpace(line))
		if err != nil {
			return f.errorAt(n, err.Error(), "")
		}
		if d != nil && d.Name == "escape" && d.Value != "`" && d.Value != `\` {
			return f.errorAt(n, fmt.Sprintf("escape=%s", d.Value), "the escape character is ` or \\")
		}
	}
	return nil
}

func (f *File) errorAt(line int, problem, fix string) *Error {
	return &Error{Name: f.name, Line: line, Problem: problem, Fix: fix}
}

// syntaxError is an error of BuildKit's parser, at its line where it has one.
func (f *File) syntaxError(err error, line int) *Error {
	var at *parser.LocationError
	if errors.As(err, &at) && line == 0 && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		line = at.Locations[0][0].Start.Line
	}
	return f.errorAt(line, err.Error(), "")
}

// stageNames lists the stages for a person: by name, or by number where they
// have none.
func (f *File) stageNames() string {
	names := make([]string, len(f.stages))
	for i, s := range f.stages {
		if names[i] = s.Name; s.Name == "" {
			names[i] = fmt.Sprint(i)
		}
	}
	return strings.Join(names, ", ")
}
