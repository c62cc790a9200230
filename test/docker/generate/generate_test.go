package generate

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// TestSameSeed has a seed give the same case, in memory and in files.
func TestSameSeed(t *testing.T) {
	for seed := range uint64(200) {
		if a, b := written(t, New(seed)), written(t, New(seed)); a != b {
			t.Fatalf("seed %d gives two cases:\n%s\n%s", seed, a, b)
		}
	}
}

// TestClone has a copy written as the case is.
func TestClone(t *testing.T) {
	for seed := range uint64(50) {
		c := New(seed)
		if a, b := written(t, c), written(t, c.Clone()); a != b {
			t.Fatalf("seed %d and its copy differ:\n%s\n%s", seed, a, b)
		}
	}
}

// TestParses has BuildKit's own parser read each Dockerfile, and find the stages
// and the heredocs that are meant.
func TestParses(t *testing.T) {
	for seed := range uint64(5000) {
		c := New(seed)
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
	for seed := range uint64(5000) {
		c := New(seed)
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
