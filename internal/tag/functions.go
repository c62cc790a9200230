package tag

import (
	"errors"
	"fmt"
	"strings"
)

// functions are those of text/template and of skaffold's
// (https://masterminds.github.io/sprig) that turn a text into another: none that
// reads the environment, runs a command or takes longer than its text is long.
// Their text comes last, to be piped.
var functions = map[string]func(args []any) (any, error){
	"and": func(args []any) (any, error) { return firstThat(args, false) },
	"or":  func(args []any) (any, error) { return firstThat(args, true) },
	"not": func(args []any) (any, error) {
		if len(args) != 1 {
			return nil, errArgs
		}
		return !truth(args[0]), nil
	},
	"eq": equal,
	"ne": func(args []any) (any, error) {
		if len(args) != 2 {
			return nil, errArgs
		}
		same, err := equal(args)
		return same != true, err
	},
	"default": func(args []any) (any, error) {
		if len(args) != 2 {
			return nil, errArgs
		}
		if truth(args[1]) {
			return args[1], nil
		}
		return args[0], nil
	},
	"lower": func(args []any) (any, error) {
		return onText(args, 1, func(s []string) string { return strings.ToLower(s[0]) })
	},
	"upper": func(args []any) (any, error) {
		return onText(args, 1, func(s []string) string { return strings.ToUpper(s[0]) })
	},
	"trimPrefix": func(args []any) (any, error) {
		return onText(args, 2, func(s []string) string { return strings.TrimPrefix(s[1], s[0]) })
	},
	"trimSuffix": func(args []any) (any, error) {
		return onText(args, 2, func(s []string) string { return strings.TrimSuffix(s[1], s[0]) })
	},
	"replace": func(args []any) (any, error) {
		tooLong := false
		value, err := onText(args, 3, func(s []string) string {
			if tooLong = len(s[2])+strings.Count(s[2], s[0])*len(s[1]) > maxExpanded; tooLong {
				return ""
			}
			return strings.ReplaceAll(s[2], s[0], s[1])
		})
		if tooLong {
			err = errTooLong
		}
		return value, err
	},
	"trunc": func(args []any) (any, error) {
		if len(args) != 2 {
			return nil, errArgs
		}
		length, ok := args[0].(int)
		if !ok {
			return nil, fmt.Errorf("%v is no number", args[0])
		}
		return onText(args[1:], 1, func(s []string) string {
			if length < 0 {
				return s[0][max(0, len(s[0])+length):]
			}
			return s[0][:min(length, len(s[0]))]
		})
	},
}

var errArgs = errors.New("wrong number of arguments")

func call(name string, args []any) (any, error) { return functions[name](args) }

// truth is false for what is empty.
func truth(value any) bool { return value != "" && value != 0 && value != false }

// firstThat is the first argument whose truth is is, or the last.
func firstThat(args []any, is bool) (any, error) {
	for _, arg := range args {
		if truth(arg) == is {
			return arg, nil
		}
	}
	if len(args) == 0 {
		return nil, errArgs
	}
	return args[len(args)-1], nil
}

// equal reports whether the first argument is one of the others.
func equal(args []any) (any, error) {
	if len(args) < 2 {
		return nil, errArgs
	}
	for _, other := range args[1:] {
		if fmt.Sprintf("%T", other) != fmt.Sprintf("%T", args[0]) {
			return nil, fmt.Errorf("%v and %v are not of one kind", args[0], other)
		}
		if args[0] == other {
			return true, nil
		}
	}
	return false, nil
}

// onText calls a function of texts.
func onText(args []any, number int, function func([]string) string) (any, error) {
	if len(args) != number {
		return nil, errArgs
	}
	texts := make([]string, number)
	for i, arg := range args {
		text, ok := arg.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no text", arg)
		}
		texts[i] = text
	}
	return function(texts), nil
}
