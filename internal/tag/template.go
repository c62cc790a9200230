// Package tag decides what an image is called: it expands templates, applies
// skaffold's tag policies and lists where the image goes.
package tag

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
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

// functions are those of skaffold's (https://masterminds.github.io/sprig) that
// turn one text into another: none that reads the environment, runs a command
// or takes longer than its text is long. Their text comes last, to be piped.
var functions = template.FuncMap{
	"default": func(instead, text string) string {
		if text == "" {
			return instead
		}
		return text
	},
	"lower":      strings.ToLower,
	"upper":      strings.ToUpper,
	"trimPrefix": func(prefix, text string) string { return strings.TrimPrefix(text, prefix) },
	"trimSuffix": func(suffix, text string) string { return strings.TrimSuffix(text, suffix) },
	"trunc": func(length int, text string) string {
		if length < 0 {
			return text[max(0, len(text)+length):]
		}
		return text[:min(length, len(text))]
	},
	"replace": func(from, to, text string) (string, error) {
		if len(text)+strings.Count(text, from)*len(to) > maxExpanded {
			return "", fmt.Errorf("it yields more than %d bytes", maxExpanded)
		}
		return strings.ReplaceAll(text, from, to), nil
	},
}

// builtin are the functions of text/template that are safe with any argument.
var builtin = []string{"and", "eq", "ne", "not", "or"}

// Expand is text with its template expanded, as text/template and skaffold have
// it: {{.NAME}}, pipelines, functions and if. Text without {{ is as it is; {{"{{"}}
// writes one.
//
// Templates may come from strangers: what they can name is in variables, and
// what they can do takes time and memory in proportion to their length.
func Expand(text string, variables Variables) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	if len(text) > maxExpanded {
		return "", fmt.Errorf("it has more than %d bytes", maxExpanded)
	}
	parsed, err := template.New("template").Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: template:"))
	}
	used := map[string]bool{}
	if err := check(parsed.Root, used); err != nil {
		return "", err
	}
	values := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		variable := variables[name]
		if variable == nil {
			return "", fmt.Errorf("there is no variable %s; there are %s", name, strings.Join(slices.Sorted(maps.Keys(variables)), ", "))
		}
		if values[name], err = variable(); err != nil {
			return "", fmt.Errorf("variable %s: %w", name, err)
		}
	}
	out := &limited{}
	if err := parsed.Execute(out, values); err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: template:"))
	}
	return out.String(), nil
}

// check refuses what is not described at Expand, and notes the variables.
func check(node parse.Node, used map[string]bool) error {
	switch n := node.(type) {
	case nil, *parse.TextNode, *parse.StringNode, *parse.NumberNode, *parse.BoolNode, *parse.CommentNode:
		return nil
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		return checkAll(n.Nodes, used)
	case *parse.ActionNode:
		return check(n.Pipe, used)
	case *parse.IfNode:
		return errors.Join(check(n.Pipe, used), check(n.List, used), check(n.ElseList, used))
	case *parse.PipeNode:
		if len(n.Decl) > 0 {
			break
		}
		return checkAll(n.Cmds, used)
	case *parse.CommandNode:
		return checkAll(n.Args, used)
	case *parse.FieldNode:
		if len(n.Ident) > 1 {
			break
		}
		used[n.Ident[0]] = true
		return nil
	case *parse.IdentifierNode:
		if functions[n.Ident] == nil && !slices.Contains(builtin, n.Ident) {
			return fmt.Errorf("function %s is not among %s", n.Ident,
				strings.Join(slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(functions)), builtin))), ", "))
		}
		return nil
	}
	return fmt.Errorf("%s is more than a template here can have: variables, pipelines, functions and if", node)
}

func checkAll[N parse.Node](nodes []N, used map[string]bool) error {
	for _, node := range nodes {
		if err := check(node, used); err != nil {
			return err
		}
	}
	return nil
}

// limited holds what a template yields.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxExpanded {
		return 0, fmt.Errorf("it yields more than %d bytes", maxExpanded)
	}
	return l.Builder.Write(p)
}
