package kaniko

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/plan"
)

func TestLookupsAreNoted(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	log := "\x1b[36mINFO\x1b[0m[0001] Checking for cached layer oci:/slipway-built/layers/layer:" + a + "...\n" +
		"Checking for cached layer oci:/slipway-built/layers/layer:short...\n" +
		strings.Repeat("x", 2*maxLine) + "\nChecking for cached layer oci:/x:" + b + "...\nno newline"
	var out bytes.Buffer
	seen := &lookups{keys: map[string]bool{}}
	through := &lines{out: &out, see: seen.see}
	for i := 0; i < len(log); i += 7 { // as pipes cut it
		if _, err := through.Write([]byte(log[i:min(i+7, len(log))])); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != log {
		t.Errorf("the log became %q", out.String())
	}
	layers := &plan.Layers{Used: filepath.Join(t.TempDir(), "used.json")}
	if err := seen.leave(layers); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(layers.Used); err != nil || string(got) != `["`+a+`","`+b+`"]` {
		t.Errorf("got %s, %v", got, err)
	}
}

// A log that says nothing of lookups is not one of a build that looked up
// nothing.
func TestNoLookups(t *testing.T) {
	t.Parallel()
	layers := &plan.Layers{Used: filepath.Join(t.TempDir(), "used.json")}
	if err := (&lookups{}).leave(layers); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(layers.Used); !os.IsNotExist(err) {
		t.Errorf("there is a file: %v", err)
	}
	if err := (&lookups{keys: map[string]bool{"a": true}}).leave(nil); err != nil {
		t.Error(err)
	}
}
