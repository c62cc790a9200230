#!/usr/bin/env bash
# A line of .dockerignore with a bar leaves out files that it does not name.
#
# The documentation of .dockerignore has the syntax of Go's filepath.Match, in
# which | ^ { and } are characters like any other. patternmatcher v0.6.1, by which
# Docker and BuildKit read the file, turns a pattern with a wildcard into a regular
# expression and does not escape these. So "a|b*" is "begins with a, or ends with b and
# what follows": apple.txt is left out of the context, and a file called "a|b1" is
# left out only because it begins with a. Without a wildcard the same line names
# the one file.
#
# Seen with github.com/moby/patternmatcher v0.6.1 on Go 1.26:
#   "a|b*" matches apple.txt: true, b1: true, a|b1: true, crab: true
#   "a|b" matches apple.txt: false, a|b: true
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/moby/patternmatcher"
)

func main() {
	for _, c := range []struct {
		pattern, file string
		want          bool
	}{
		{"a|b*", "apple.txt", true}, // filepath.Match says false
		{"a|b*", "b1", true},        // filepath.Match says false
		{"a|b*", "a|b1", true},
		{"a|b*", "crab", true}, // filepath.Match says false
		{"a|b", "apple.txt", false},
		{"a|b", "a|b", true},
	} {
		got, err := patternmatcher.MatchesOrParentMatches(c.file, []string{c.pattern})
		fmt.Printf("%q matches %q: %t %v\n", c.pattern, c.file, got, err)
		if err != nil || got != c.want {
			fmt.Println("this has changed")
			os.Exit(1)
		}
	}
}
GO
cat > go.mod <<'MOD'
module finding

go 1.24
MOD
go get github.com/moby/patternmatcher@v0.6.1 > /dev/null 2>&1
go run .
