package volume

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

// library is a module whose package library has a string Data.
const library = "corp.example/library"

// publish adds a version of the library to a folder that is a module proxy, as
// GOPROXY=file:// reads one, and returns what a go.sum has of it.
func publish(t *testing.T, proxy, version string, data []byte) (goSum string) {
	t.Helper()
	const goMod = "module " + library + "\n\ngo 1.24\n"
	source := t.TempDir()
	at := filepath.Join(proxy, filepath.FromSlash(library), "@v", version)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{
		filepath.Join(source, "go.mod"):     goMod,
		filepath.Join(source, "library.go"): "package library\n\nimport _ \"embed\"\n\n//go:embed data\nvar Data string\n",
		filepath.Join(source, "data"):       string(data),
		at + ".info":                        `{"Version":"` + version + `"}`,
		at + ".mod":                         goMod,
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Create(at + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(zip.CreateFromDir(archive, module.Version{Path: library, Version: version}, source), archive.Close()); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.HashZip(at+".zip", dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	mod := sha256.Sum256([]byte(goMod))
	line := sha256.Sum256([]byte(hex.EncodeToString(mod[:]) + "  go.mod\n"))
	return fmt.Sprintf("%s %s %s\n%s %s/go.mod h1:%s\n", library, version, sum, library, version, base64.StdEncoding.EncodeToString(line[:]))
}
