package kaniko

import (
	"bytes"
	"testing"
)

func TestTheUsersOwnErrorIsTheLastWord(t *testing.T) {
	t.Parallel()
	const verdict = "error building image: error building stage: failed to execute command: waiting for process to exit: exit status 1\n"
	for name, tc := range map[string]struct{ written, want string }{
		"a command failed": {
			"INFO[0001] RUN go build\n./main.go:3:1: syntax error\n" + verdict,
			"INFO[0001] RUN go build\n./main.go:3:1: syntax error\n",
		},
		"the verdict says more": {
			"INFO[0001] COPY x /x\nerror building image: no space left on device\n",
			"INFO[0001] COPY x /x\nerror building image: no space left on device\n",
		},
		"a command was killed": {
			"error building image: error building stage: failed to execute command: waiting for process to exit: signal: killed\n",
			"error building image: error building stage: failed to execute command: waiting for process to exit: signal: killed\n",
		},
		"a command prints the same words": {verdict + "but goes on\n", verdict + "but goes on\n"},
		"twice":                           {verdict + verdict, verdict},
		"a line without an end":           {"no newline", "no newline"},
		"the start of the verdict":        {"error buil", "error buil"},
		"almost the verdict":              {"error building imagery\nx\n", "error building imagery\nx\n"},
		"in the middle of a line":         {"an " + verdict, "an " + verdict},
		"kaniko's colours":                {"\x1b[36mINFO\x1b[0m[0001] x\n\x1b[31mERRO\x1b[0m[0001] y\n", "INFO[0001] x\nERRO[0001] y\n"},
		"a command's colours":             {"\x1b[31mFAIL\x1b[0m: x\n\x1b[36mINFO\nx", "\x1b[31mFAIL\x1b[0m: x\n\x1b[36mINFO\nx"},
		"the start of a colour":           {"\x1b[36mIN", "\x1b[36mIN"},
		"empty lines":                     {"\n\nerror\n", "\n\nerror\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for size := 1; size <= len(tc.written); size++ {
				var out bytes.Buffer
				w := &lastWord{out: &out}
				for rest := []byte(tc.written); len(rest) > 0; {
					n := min(size, len(rest))
					if written, err := w.Write(rest[:n]); err != nil || written != n {
						t.Fatalf("wrote %d of %d: %v", written, n, err)
					}
					rest = rest[n:]
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if out.String() != tc.want {
					t.Fatalf("in pieces of %d: got %q, want %q", size, out.String(), tc.want)
				}
			}
		})
	}
}

func TestProgressWithoutANewlinePassesAtOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := &lastWord{out: &out}
	for _, part := range []string{"downloading", " 10%", "\rdownloading 20%"} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "downloading 10%\rdownloading 20%"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
