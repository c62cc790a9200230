package dockerfile

import (
	"regexp"
	"slices"
	"strings"
)

// assignments are the variables that the commands of a shell script set, for
// themselves or for what follows: "A=1 go build", "export A=1", "env A=1 go
// build", "go env -w A=1". Text that only has the form of one, as in
// `echo "A=$A"`, is none. What a script hides in variables, functions and other
// scripts is not seen.
func assignments(script string) []string {
	var names []string
	var command []string // the words so far; assignments in front of a command are none of them
	for _, word := range shellWords(script) {
		if word == operator {
			command = nil
			continue
		}
		name := assigned.FindStringSubmatch(word)
		switch {
		case name != nil && takesAssignments(command):
			names = append(names, name[1])
			continue
		case slices.Contains(commandPrefixes, word) && len(command) == 0:
			continue
		case len(command) > 1 && command[len(command)-1] == "-c" && slices.Contains(shells, command[0]):
			names = append(names, assignments(word)...)
		}
		command = append(command, word)
	}
	return names
}

// operator stands for whatever ends a command.
const operator = "\n"

var (
	assigned = regexp.MustCompile(`^([A-Za-z_]\w*)=`)
	// commandPrefixes stand before a command and are none themselves.
	commandPrefixes = strings.Fields("if then else elif while until do ! { time exec command sudo")
	shells          = strings.Fields("sh bash ash dash /bin/sh /bin/bash")
)

// takesAssignments reports whether NAME=value after these words sets NAME.
func takesAssignments(command []string) bool {
	if len(command) == 0 {
		return true
	}
	switch command[0] {
	case "export", "env", "declare", "readonly", "local":
		return true
	case "go":
		return len(command) > 2 && command[1] == "env" && slices.Contains(command[2:], "-w")
	}
	return false
}

// shellWords splits a script as a shell does, without expanding anything:
// quotes are removed, comments too, and what ends a command becomes operator.
func shellWords(script string) []string {
	var words []string
	var word strings.Builder
	inWord := false
	end := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	for pos := 0; pos < len(script); pos++ {
		switch c := script[pos]; {
		case c == '\\' && pos+1 < len(script):
			pos++
			if script[pos] != '\n' {
				word.WriteByte(script[pos])
				inWord = true
			}
		case c == '\'' || c == '"':
			inWord = true
			for pos++; pos < len(script) && script[pos] != c; pos++ {
				if c == '"' && script[pos] == '\\' && pos+1 < len(script) {
					pos++
				}
				word.WriteByte(script[pos])
			}
		case c == ' ' || c == '\t' || c == '\r':
			end()
		case strings.IndexByte("\n;&|()", c) >= 0:
			end()
			words = append(words, operator)
		case c == '#' && !inWord:
			for pos+1 < len(script) && script[pos+1] != '\n' {
				pos++
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	end()
	return words
}
