#!/usr/bin/env bash
# Docker sends a file of the build context empty, where the ignore file names its
# folder, then the file as an exception, and then the folder again.
#
# fsutil's filter is how Docker's client applies .dockerignore. For
#   docs
#   !docs/keep.md
#   docs
# its Walk lists docs/keep.md, so the client announces the file with its size, and
# its Open says that the file does not exist. BuildKit then has a file without
# content and builds on. One would guess that both ask the same question: listed
# and readable, or neither. The last line of the three counts for Open alone.
#
# Seen with github.com/tonistiigi/fsutil v0.0.0-20251211185533-a2aa163d723f (that
# of BuildKit v0.30.0):
#   Walk lists: docs docs/keep.md
#   Open docs/keep.md: file does not exist
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir -p context/docs
echo kept > context/docs/keep.md
echo other > context/docs/other.md
cat > main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/tonistiigi/fsutil"
)

func main() {
	files, err := fsutil.NewFS("context")
	if err != nil {
		panic(err)
	}
	filtered, err := fsutil.NewFilterFS(files, &fsutil.FilterOpt{ExcludePatterns: []string{"docs", "!docs/keep.md", "docs"}})
	if err != nil {
		panic(err)
	}
	var listed []string
	if err := filtered.Walk(context.Background(), "", func(name string, _ fs.DirEntry, err error) error {
		listed = append(listed, name)
		return err
	}); err != nil {
		panic(err)
	}
	_, err = filtered.Open("docs/keep.md")
	fmt.Println("Walk lists:", strings.Join(listed, " "))
	fmt.Println("Open docs/keep.md:", err)
	if strings.Join(listed, " ") != "docs docs/keep.md" || !errors.Is(err, fs.ErrNotExist) {
		fmt.Println("this has changed")
		os.Exit(1)
	}
}
GO
cat > go.mod <<'MOD'
module finding

go 1.24
MOD
go get github.com/tonistiigi/fsutil@v0.0.0-20251211185533-a2aa163d723f > /dev/null 2>&1
go run .
