// Package tag decides what an image is called: it expands templates, applies
// skaffold's tag policies and lists where the image goes.
package tag

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template/parse"
)

// Variables are what a template can name. Each is asked for its value only
// where a template does.
type Variables map[string]func() (string, error)

// Literal is a variable with a value of its own.
func Literal(value string) func() (string, error) {
	return func() (string, error) { return value, nil }
}

// maxExpanded is the most bytes that a template, or a function in one, yields.
const maxExpanded = 64 << 10

// Expand is text with its template expanded, as text/template and skaffold have
// it: {{.NAME}}, pipelines, functions and if. Text without {{ is as it is; {{"{{"}}
// writes one.
//
// Templates may come from strangers: what they can name is in variables, and
// what they can do takes time and memory in proportion to their length. For
// that, and since text/template's execution by reflection would keep every
// method of every library in a program (7 MB of the step prepare), only its
// parser is used.
func Expand(text string, variables Variables) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	if len(text) > maxExpanded {
		return "", fmt.Errorf("it has more than %d bytes", maxExpanded)
	}
	known := map[string]any{}
	for name := range functions {
		known[name] = true
	}
	trees, err := parse.Parse("template", text, "{{", "}}", known)
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: template:"))
	}
	tree := trees["template"]
	if tree == nil { // nothing but comments and definitions
		return "", nil
	}
	if err := check(tree.Root, variables); err != nil {
		return "", err
	}
	e := &expansion{variables: variables}
	if err := e.list(tree.Root); err != nil {
		return "", err
	}
	return e.out.String(), nil
}

// check refuses what is not described at Expand, and variables that do not
// exist.
func check(node parse.Node, variables Variables) error {
	switch n := node.(type) {
	case *parse.TextNode, *parse.StringNode, *parse.NumberNode, *parse.BoolNode, *parse.CommentNode, *parse.IdentifierNode:
		return nil
	case *parse.ListNode:
		if n == nil { // an if without an else
			return nil
		}
		return checkAll(n.Nodes, variables)
	case *parse.ActionNode:
		return check(n.Pipe, variables)
	case *parse.IfNode:
		return errors.Join(check(n.Pipe, variables), check(n.List, variables), check(n.ElseList, variables))
	case *parse.PipeNode:
		if len(n.Decl) > 0 {
			break
		}
		return checkAll(n.Cmds, variables)
	case *parse.CommandNode:
		return checkAll(n.Args, variables)
	case *parse.FieldNode:
		if len(n.Ident) > 1 {
			break
		}
		if variables[n.Ident[0]] == nil {
			return fmt.Errorf("there is no variable %s; there are %s", n.Ident[0], strings.Join(slices.Sorted(maps.Keys(variables)), ", "))
		}
		return nil
	}
	return fmt.Errorf("%s is more than a template here can have: variables, pipelines, functions and if", node)
}

func checkAll[N parse.Node](nodes []N, variables Variables) error {
	for _, node := range nodes {
		if err := check(node, variables); err != nil {
			return err
		}
	}
	return nil
}

// expansion of a template that check has passed. Values are strings, ints and
// bools.
type expansion struct {
	variables Variables
	out       strings.Builder
}

func (e *expansion) list(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, node := range list.Nodes {
		var err error
		switch n := node.(type) {
		case *parse.TextNode:
			err = e.write(string(n.Text))
		case *parse.ActionNode:
			var value any
			if value, err = e.pipe(n.Pipe); err == nil {
				err = e.write(fmt.Sprint(value))
			}
		case *parse.IfNode:
			var value any
			if value, err = e.pipe(n.Pipe); err == nil && truth(value) {
				err = e.list(n.List)
			} else if err == nil {
				err = e.list(n.ElseList)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *expansion) write(text string) error {
	if e.out.Len()+len(text) > maxExpanded {
		return errTooLong
	}
	e.out.WriteString(text)
	return nil
}

var errTooLong = fmt.Errorf("it yields more than %d bytes", maxExpanded)

// pipe gives each command the value of the one before as its last argument.
func (e *expansion) pipe(pipe *parse.PipeNode) (value any, err error) {
	for i, command := range pipe.Cmds {
		function, isFunction := command.Args[0].(*parse.IdentifierNode)
		if !isFunction {
			if len(command.Args) > 1 || i > 0 {
				return nil, fmt.Errorf("%s is no function", command.Args[0])
			}
			if value, err = e.value(command.Args[0]); err != nil {
				return nil, err
			}
			continue
		}
		var args []any
		for _, node := range command.Args[1:] {
			arg, err := e.value(node)
			if err != nil {
				return nil, err
			}
			args = append(args, arg)
		}
		if i > 0 {
			args = append(args, value)
		}
		if value, err = call(function.Ident, args); err != nil {
			return nil, fmt.Errorf("%s: %w", function.Ident, err)
		}
	}
	return value, nil
}

func (e *expansion) value(node parse.Node) (any, error) {
	switch n := node.(type) {
	case *parse.StringNode:
		return n.Text, nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.NumberNode:
		if !n.IsInt {
			return nil, fmt.Errorf("%s is no whole number", n)
		}
		return int(n.Int64), nil
	case *parse.FieldNode:
		value, err := e.variables[n.Ident[0]]()
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", n.Ident[0], err)
		}
		return value, nil
	case *parse.PipeNode:
		return e.pipe(n)
	case *parse.IdentifierNode:
		return call(n.Ident, nil)
	default:
		return nil, fmt.Errorf("%s is no value", node)
	}
}
