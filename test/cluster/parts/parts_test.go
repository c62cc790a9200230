package parts_test

import (
	"io/fs"
	"os"
	"slices"
	"testing"

	"github.com/slipway-ci/slipway/test/cluster/parts"
)

func TestEachFolderIsAPartWithAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	entries, err := fs.ReadDir(os.DirFS("."), ".")
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Concat(parts.Names, parts.Contenders, parts.Oracles)
	keys := map[string]string{}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if !slices.Contains(names, entry.Name()) {
			t.Errorf("folder %s is in none of Names, Contenders and Oracles: it is never built", entry.Name())
		}
		key, err := parts.Key(entry.Name())
		if err != nil {
			t.Error(err)
		}
		if other, ok := keys[key]; ok {
			t.Errorf("%s and %s have the same key %s", entry.Name(), other, key)
		}
		keys[key] = entry.Name()
	}
	if len(keys) != len(names) {
		t.Errorf("%d folders, %d names", len(keys), len(names))
	}
	if _, err := parts.Key("nothing"); err == nil {
		t.Error("a part that does not exist has a key")
	}
}
