package generate

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// manyCases are those of 5,000 seeds, for tests that do not change them.
var manyCases = sync.OnceValue(func() []*Case {
	var all []*Case
	for seed := range uint64(5000) {
		all = append(all, New(seed))
	}
	return all
})

// TestSameSeed has a seed give the same case.
func TestSameSeed(t *testing.T) {
	for seed := range uint64(500) {
		if a, b := encoded(t, New(seed)), encoded(t, New(seed)); a != b {
			t.Fatalf("seed %d gives two cases:\n%s\n%s", seed, a, b)
		}
	}
}

// TestWrite has a case written as it is, and a copy of it too.
func TestWrite(t *testing.T) {
	for seed := range uint64(5) {
		c := New(seed)
		a, b := written(t, c), written(t, c.Clone())
		if a != b {
			t.Fatalf("seed %d and its copy differ:\n%s\n%s", seed, a, b)
		}
		for _, f := range c.Files {
			if !strings.Contains(a, "/context/"+f.Path+" ") {
				t.Errorf("seed %d has no %s:\n%s", seed, f.Path, a)
			}
		}
		if !strings.Contains(a, c.String()) {
			t.Errorf("seed %d is not written as\n%s\nbut\n%s", seed, c, a)
		}
	}
}

func encoded(t *testing.T, c *Case) string {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestParses has BuildKit's own parser read each Dockerfile, and find the stages
// and the heredocs that are meant.
func TestParses(t *testing.T) {
	for seed, c := range manyCases() {
		stages := parsed(t, c)
		if len(stages) != len(c.Stages) {
			t.Errorf("seed %d: %d stages of %d\n%s", seed, len(stages), len(c.Stages), c)
			continue
		}
		for n, s := range stages {
			if len(s.Commands) != len(c.Stages[n].Body) {
				t.Errorf("seed %d: %d instructions of %d\n%s", seed, len(s.Commands), len(c.Stages[n].Body), c)
			}
		}
	}
}

// TestSize has cases stay small.
func TestSize(t *testing.T) {
	for seed, c := range manyCases() {
		n := len(c.Stages)
		for _, s := range c.Stages {
			n += len(s.Body)
		}
		if n < 4 || n > 15 {
			t.Errorf("seed %d: %d instructions\n%s", seed, n, c)
		}
	}
}

func parsed(t *testing.T, c *Case) []instructions.Stage {
	t.Helper()
	result, err := parser.Parse(strings.NewReader(c.String()))
	if err != nil {
		t.Errorf("seed %d: %v\n%s", c.Seed, err, c)
		return nil
	}
	stages, _, err := instructions.Parse(result.AST, nil)
	if err != nil {
		t.Errorf("seed %d: %v\n%s", c.Seed, err, c)
		return nil
	}
	return stages
}

// written is what Write makes, as text.
func written(t *testing.T, c *Case) string {
	t.Helper()
	dir := t.TempDir()
	if err := c.Write(dir); err != nil {
		t.Fatalf("seed %d: %v", c.Seed, err)
	}
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(strings.TrimPrefix(p, dir) + " " + info.Mode().String() + "\n")
		switch {
		case d.Type().IsRegular():
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.Write(content)
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			b.WriteString(to + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
