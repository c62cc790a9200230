package dockerfile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// source is a Dockerfile as lines.
type source struct {
	content      []byte
	starts       []int          // offset of each line
	continuation *regexp.Regexp // the parser's own, see joined
}

func newSource(content []byte, escape rune) *source {
	e := `\` + string(escape)
	s := &source{
		content:      content,
		continuation: regexp.MustCompile(`([^` + e + `])` + e + `[ \t]*$|^` + e + `[ \t]*$`),
	}
	offset := 0
	for line := range bytes.Lines(content) {
		s.starts = append(s.starts, offset)
		offset += len(line)
	}
	return s
}

// joined is an instruction as the parser sees it: its lines in one, without
// line continuations and the comments between them. The parser keeps no
// columns, so the joining is done again here, by the rules of its Parse
// (github.com/moby/buildkit/frontend/dockerfile/parser), to know for each byte
// where in the source it stands.
type joined struct {
	text string
	at   []int // of each byte of text its offset in the source
}

// join reads the instruction that starts at line, counted from 1.
func (s *source) join(line int) joined {
	var j joined
	var text strings.Builder
	for n := line - 1; n < len(s.starts); n++ {
		start, end := s.starts[n], len(s.content)
		if n+1 < len(s.starts) {
			end = s.starts[n+1]
		}
		content := bytes.TrimRight(s.content[start:end], "\r\n")
		bare := bytes.TrimLeftFunc(content, unicode.IsSpace)
		if n == line-1 {
			start += len(content) - len(bare)
			content = bare
		} else if len(bare) == 0 || bare[0] == '#' {
			continue
		}
		continued := s.continuation.FindSubmatchIndex(content)
		if continued != nil {
			content = content[:max(continued[3], 0)]
		}
		text.Write(content)
		for i := range content {
			j.at = append(j.at, start+i)
		}
		if continued == nil {
			break
		}
	}
	j.text = text.String()
	return j
}

func (j joined) cut(s span) joined {
	return joined{text: j.text[s.start:s.end], at: j.at[s.start:s.end]}
}

// replace is the edit that puts text in a word's place. A word that spans
// lines ends up on one, together with what stood between its parts.
func (j joined) replace(s span, text string) edit {
	return edit{start: j.at[s.start], end: j.at[s.end-1] + 1, text: text}
}

// span is part of a joined text.
type span struct{ start, end int }

// words are the places of an instruction's words.
type words struct {
	joined
	flagSpans []span
	rest      span   // everything after the flags
	args      []span // the words of rest; a single one where the instruction takes it whole
	json      bool   // args are JSON strings
}

func (w *words) raw(s span) string { return w.text[s.start:s.end] }

// split finds the words of an instruction, by the rules of the parser's
// splitCommand and line parsers.
func split(node *parser.Node, text joined, escape rune) words {
	w := words{joined: text, json: node.Attributes["json"]}
	line := strings.TrimSpace(text.text)
	begin := strings.Index(text.text, line)
	end := begin + len(line)
	pos := begin + len(node.Value)
	w.flagSpans, pos = flagSpans(text.text[:end], pos, escape)
	w.rest = trim(text.text, span{pos, end})
	switch {
	case w.rest.start == w.rest.end:
	case w.json:
		w.args = jsonSpans(text.text, w.rest)
	case takesWords[strings.ToLower(node.Value)]:
		w.args = fieldSpans(text.text, w.rest)
	default:
		w.args = []span{w.rest}
	}
	return w
}

// takesWords are the instructions whose rest the parser splits at white space,
// of those that are edited.
var takesWords = map[string]bool{"from": true, "copy": true, "add": true}

func flagSpans(line string, pos int, escape rune) (flags []span, rest int) {
	for {
		for pos < len(line) && unicode.IsSpace(rune(line[pos])) {
			pos++
		}
		if !strings.HasPrefix(line[pos:], "--") {
			return flags, pos
		}
		start, quote, bare := pos, byte(0), 0 // bare counts characters without quotes
	word:
		for ; pos < len(line); pos++ {
			switch c := line[pos]; {
			case rune(c) == escape:
				pos++
				bare++
			case c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote == 0 && unicode.IsSpace(rune(c)):
				break word
			default:
				bare++
			}
		}
		pos = min(pos, len(line))
		if bare == len("--") {
			return flags, pos // what follows is no flag, whatever it looks like
		}
		flags = append(flags, span{start, pos})
	}
}

func trim(text string, s span) span {
	inner := text[s.start:s.end]
	left := len(inner) - len(strings.TrimLeftFunc(inner, unicode.IsSpace))
	if left == len(inner) {
		return span{s.end, s.end}
	}
	return span{s.start + left, s.start + len(strings.TrimRightFunc(inner, unicode.IsSpace))}
}

var field = regexp.MustCompile(`[^\t\v\f\r ]+`)

func fieldSpans(text string, s span) []span {
	var spans []span
	for _, m := range field.FindAllStringIndex(text[s.start:s.end], -1) {
		spans = append(spans, span{s.start + m[0], s.start + m[1]})
	}
	return spans
}

func jsonSpans(text string, s span) []span {
	var spans []span
	d := json.NewDecoder(strings.NewReader(text[s.start:s.end]))
	for {
		from := int(d.InputOffset())
		token, err := d.Token()
		if err != nil {
			return spans
		}
		if _, ok := token.(string); ok {
			to := int(d.InputOffset())
			quote := strings.IndexByte(text[s.start+from:s.start+to], '"')
			spans = append(spans, span{s.start + from + quote, s.start + to})
		}
	}
}

// edit replaces part of the source.
type edit struct {
	start, end int // offsets; the same for an insertion
	text       string
}

// apply makes edits, none of which overlap.
func apply(content []byte, edits []edit) []byte {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	var out bytes.Buffer
	done := 0
	for _, e := range edits {
		out.Write(content[done:e.start])
		out.WriteString(e.text)
		done = e.end
	}
	out.Write(content[done:])
	return out.Bytes()
}
