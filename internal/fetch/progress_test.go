package fetch

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestProgress: what git would overwrite is told now and then, and what stays
// always, however it is cut.
func TestProgress(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	said.WriteString("Enumerating objects: 4, done.\n")
	for i := range 4 {
		fmt.Fprintf(&said, "Counting objects: %3d%%\r", 25*(i+1))
	}
	said.WriteString("Counting objects: 100%, done.\n\r\n" + strings.Repeat("x", maxLine+1) + "\nTotal")
	for size := range 7 {
		var out bytes.Buffer
		clock := time.Unix(0, 0)
		p := &progress{out: &out, told: clock, now: func() time.Time {
			clock = clock.Add(2 * time.Second) // a line
			return clock
		}}
		for rest := []byte(said.String()); len(rest) > 0; {
			n := min(size+1, len(rest))
			if written, err := p.Write(rest[:n]); err != nil || written != n {
				t.Fatal(written, err)
			}
			rest = rest[n:]
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		want := "Enumerating objects: 4, done.\n" + // at 2 s
			"Counting objects:  75%\n" + // at 8 s
			"Counting objects: 100%, done.\n" + strings.Repeat("x", maxLine) + "\nx\nTotal\n"
		if out.String() != want {
			t.Errorf("in pieces of %d: %q, want %q", size+1, out.String(), want)
		}
	}
}
