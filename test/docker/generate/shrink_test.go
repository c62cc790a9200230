package generate

import (
	"context"
	"strings"
	"testing"
)

// TestShrink has cases that "differ" for one instruction lose all the rest.
func TestShrink(t *testing.T) {
	for _, test := range []struct {
		name string
		has  func(Instruction) bool
		want string // of the instruction that is left, at its beginning
		most int    // instructions, FROM not among them
	}{
		{"COPY --chmod", func(i Instruction) bool {
			return i.Name == "COPY" && hasFlag(i, "--chmod=")
		}, "COPY --chmod=755 ", 1},
		{"symbolic --chmod", func(i Instruction) bool {
			return i.Name == "COPY" && hasFlag(i, "--chmod=u=rwX")
		}, "COPY --chmod=u=rwX,go=rX ", 1},
		{"RUN with id", func(i Instruction) bool {
			return i.Name == "RUN" && len(i.Docs) == 0 && strings.Contains(strings.Join(i.Words, " "), "id > ")
		}, "RUN id > ", 1},
		{"tmpfs", func(i Instruction) bool { return hasFlag(i, "--mount=") && strings.Contains(i.Flags[0], "type=tmpfs") }, "RUN --mount=type=tmpfs true", 1},
		{"quoted heredoc", func(i Instruction) bool { return i.Name == "COPY" && len(i.Docs) > 0 && i.Docs[0].Quote == "'" }, "COPY <<", 1},
		{"LABEL with both quotes", func(i Instruction) bool {
			return i.Name == "LABEL" && strings.Contains(strings.Join(i.Words, " "), `"it's"`)
		}, "LABEL ", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := 0
			for seed := uint64(0); seed < 20000 && found < 5; seed++ {
				c := New(seed)
				if !hasInstruction(c, test.has) {
					continue
				}
				found++
				tries := 0
				small := Shrink(t.Context(), c, func(_ context.Context, c *Case) bool {
					tries++
					parsed(t, c)
					return hasInstruction(c, test.has)
				})
				if !hasInstruction(small, test.has) {
					t.Fatalf("seed %d: what differed is gone:\n%s", seed, small)
				}
				if n := len(small.instructions()); n > test.most || len(small.Stages) > 1 || len(small.Files) > 0 || len(small.Ignore) > 0 || len(small.BuildArgs) > 0 || len(small.Globals) > 0 {
					t.Errorf("seed %d is left with %d instructions, %d stages, files %v, ignored %q, args %v:\n%s", seed, n, len(small.Stages), small.Files, small.Ignore, small.BuildArgs, small)
				}
				if i := small.instructions()[0]; !strings.HasPrefix(text(*i), test.want) {
					t.Errorf("seed %d: %q is left, want %q", seed, text(*i), test.want)
				}
				if tries > Tries {
					t.Errorf("seed %d: %d tries", seed, tries)
				}
			}
			if found == 0 {
				t.Error("no case has it")
			}
		})
	}
}

// TestShrinkStages has what two stages do together stay together.
func TestShrinkStages(t *testing.T) {
	joined := func(_ context.Context, c *Case) bool {
		for n, s := range c.Stages {
			for _, i := range s.Body {
				for _, earlier := range c.Stages[:n] {
					if i.Name == "COPY" && earlier.Name != "" && hasFlag(i, "--from="+earlier.Name) && len(earlier.Body) > 0 && earlier.Body[0].Name == "RUN" {
						return true
					}
				}
			}
		}
		return false
	}
	found := 0
	for seed := uint64(0); seed < 5000 && found < 5; seed++ {
		c := New(seed)
		if !joined(t.Context(), c) {
			continue
		}
		found++
		small := Shrink(t.Context(), c, joined)
		if len(small.Stages) != 2 || len(small.instructions()) != 2 {
			t.Errorf("seed %d is left with\n%s", seed, small)
		}
	}
	if found == 0 {
		t.Error("no case has it")
	}
}

// TestShrinkStops has a cancelled context end it, and a case without a difference
// come back as it was.
func TestShrinkStops(t *testing.T) {
	c := New(7)
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	Shrink(ctx, c, func(context.Context, *Case) bool {
		if tries++; tries == 3 {
			cancel()
		}
		return true
	})
	if tries != 3 {
		t.Errorf("%d tries, want 3", tries)
	}
	if same := Shrink(t.Context(), c, func(context.Context, *Case) bool { return false }); encoded(t, same) != encoded(t, c) {
		t.Errorf("came back as\n%s", same)
	}
}

func hasInstruction(c *Case, has func(Instruction) bool) bool {
	for _, i := range c.instructions() {
		if has(*i) {
			return true
		}
	}
	return false
}

func hasFlag(i Instruction, prefix string) bool {
	for _, f := range i.Flags {
		if strings.HasPrefix(f, prefix) {
			return true
		}
	}
	return false
}

// text is an instruction in one line, but for its documents.
func text(i Instruction) string {
	i.Lower, i.Breaks, i.Comment, i.Inside = false, false, "", ""
	var b strings.Builder
	i.render(&b, `\`)
	return b.String()
}
