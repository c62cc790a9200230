#!/usr/bin/env bash
# COPY --chmod=644 of one file makes folders that only root can enter.
#
# fsutil's Copy, which BuildKit carries COPY out with, gives the mode of the files
# also to the folders above the destination that it makes. With 0644 they have no
# x bit, so that no other user reaches the file. With Docker that is
#   FROM scratch
#   COPY --chmod=644 config.yml /etc/app/config.yml
#   USER 1000
# and the program fails to open a file that everybody may read. One would guess that
# folders get 0755, as they do without --chmod, or an x for each r, as with
# chmod's X. A symbolic mode does not do this: with u=rw,go=r they are 0755.
#
# Seen with github.com/tonistiigi/fsutil v0.0.0-20251211185533-a2aa163d723f (that
# of BuildKit v0.30.0):
#   0644: etc 0644, etc/app 0644, etc/app/config.yml 0644
#   u=rw,go=r: etc 0755, etc/app 0755, etc/app/config.yml 0644
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir context numeric symbolic
echo 'port: 80' > context/config.yml
chmod 600 context/config.yml
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	fscopy "github.com/tonistiigi/fsutil/copy"
)

func modes(root string, option fscopy.Opt) string {
	if err := fscopy.Copy(context.Background(), "context", "config.yml", root, "/etc/app/config.yml", option); err != nil {
		panic(err)
	}
	var said []string
	for _, name := range []string{"etc", "etc/app", "etc/app/config.yml"} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			panic(err)
		}
		said = append(said, fmt.Sprintf("%s %04o", name, info.Mode().Perm()))
	}
	return strings.Join(said, ", ")
}

func main() {
	mode := 0o644
	numeric := modes("numeric", func(ci *fscopy.CopyInfo) { ci.Mode = &mode })
	symbolic := modes("symbolic", func(ci *fscopy.CopyInfo) { ci.ModeStr = "u=rw,go=r" })
	fmt.Println("0644:", numeric)
	fmt.Println("u=rw,go=r:", symbolic)
	if numeric != "etc 0644, etc/app 0644, etc/app/config.yml 0644" || symbolic != "etc 0755, etc/app 0755, etc/app/config.yml 0644" {
		fmt.Println("this has changed")
		os.Exit(1)
	}
}
GO
cat > go.mod <<'MOD'
module finding

go 1.24
MOD
go get github.com/tonistiigi/fsutil/copy@v0.0.0-20251211185533-a2aa163d723f > /dev/null 2>&1
go run .
