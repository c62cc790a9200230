package dockerfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// FuzzDerive holds for any text: a refusal is an Error, places in the source
// are those of the parser's text, and what is derived parses, has the source's
// instructions and the added stages, and derives to itself.
func FuzzDerive(f *testing.F) {
	cases, err := filepath.Glob("testdata/derive/*/Dockerfile")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range cases {
		source, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(source, "")
		f.Add(source, "1")
	}
	f.Add([]byte("FROM golang\nCOPY --from=busybox\x8e /kaniko/x /x\n"), "") // the parser reads flags by byte
	f.Fuzz(func(t *testing.T, source []byte, target string) {
		o := Options{Target: target, Platform: "linux/amd64", Mounted: mounted, ModCache: "/go/pkg/mod", BuildArgs: map[string]string{"DIR": "/workspace"}}
		derived, _, err := derive(t.Context(), source, o)
		if err != nil {
			if finding := (*Error)(nil); !errors.As(err, &finding) && !strings.Contains(err.Error(), "no image reference") {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		before, after := parse(t, source), parse(t, derived.Content)
		added := 0
		for _, c := range derived.Changes {
			if strings.HasPrefix(c.New, "FROM ") {
				added++
			}
		}
		if len(after) != len(before)+added {
			t.Fatalf("%d instructions and %d added stages became %d:\n%s", len(before), added, len(after), derived.Content)
		}
		content := shortDigest.ReplaceAll(derived.Content, []byte("${0}"+strings.Repeat("0", 56)))
		again, err := Parse("Dockerfile", content)
		if err != nil {
			t.Fatalf("derived: %v\n%s", err, derived.Content)
		}
		o.Target, o.Pin = derived.Target, keep
		same, err := again.Derive(t.Context(), o)
		if err != nil {
			t.Fatalf("derive the derived: %v\n%s", err, derived.Content)
		}
		if !bytes.Equal(same.Content, content) || same.Target != derived.Target {
			t.Fatalf("derived again:\n%s", same.Diff())
		}
	})
}

// shortDigest is one that the tests pin an image to.
var shortDigest = regexp.MustCompile(`@sha256:[0-9a-f]{8}\b`)

// parse parses with the parser alone, and checks the places this package
// finds against its text.
func parse(t *testing.T, source []byte) []*parser.Node {
	t.Helper()
	source = bytes.TrimPrefix(source, byteOrderMark)
	result, err := parser.Parse(bytes.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	lines := newSource(source, result.EscapeToken)
	for _, node := range result.AST.Children {
		joined := lines.join(node.StartLine)
		if joined.text != node.Original {
			t.Fatalf("line %d reads %q, the parser has %q", node.StartLine, joined.text, node.Original)
		}
		for i, at := range joined.at {
			if source[at] != joined.text[i] {
				t.Fatalf("line %d: byte %d of %q is not at %d", node.StartLine, i, joined.text, at)
			}
		}
		words := split(node, joined, result.EscapeToken)
		if len(words.flagSpans) < len(node.Flags) {
			t.Fatalf("line %d has %d flags, the parser %d", node.StartLine, len(words.flagSpans), len(node.Flags))
		}
		if !takesWords[strings.ToLower(node.Value)] {
			continue
		}
		next := node.Next
		for n, arg := range words.args {
			if next == nil {
				t.Fatalf("line %d: word %d of %q is not the parser's", node.StartLine, n, joined.text)
			}
			if !words.json && words.raw(arg) != next.Value {
				t.Fatalf("line %d: word %d is %q, the parser has %q", node.StartLine, n, words.raw(arg), next.Value)
			}
			next = next.Next
		}
		if next != nil {
			t.Fatalf("line %d: %q has more words, the parser goes on with %q", node.StartLine, joined.text, next.Value)
		}
	}
	return result.AST.Children
}
