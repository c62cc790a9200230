package buildcontext

import (
	"strings"
	"unicode/utf8"
)

// Patterns are the patterns, as ignore files and the exclude patterns of
// [github.com/tonistiigi/fsutil/copy] have them, that match these clean relative
// paths and what is below them. Each matches nothing else, unless a name is not
// UTF-8 and has a character that needs escaping: then any byte that is not
// UTF-8 does for any other.
func Patterns(paths []string) []string {
	patterns := make([]string, len(paths))
	for i, name := range paths {
		patterns[i] = pattern(name)
	}
	return patterns
}

// special are the characters that a regular expression gives a meaning. A pattern
// with any escape is made into one, where patternmatcher (v0.6.1) itself does
// not escape "^", "|", "{" and "}".
const special = `\.+*?()|[]{}^$`

// mark is a byte order mark, which patternmatcher drops at the begin of such
// an expression.
const mark = "\uFEFF"

func pattern(name string) string {
	trimmed := strings.TrimSpace(name) == name
	if trimmed && !strings.ContainsAny(name, `*?[]\`) && name[0] != '!' {
		return name // compared as it is
	}
	var text strings.Builder
	_, last := utf8.DecodeLastRuneInString(name)
	last = len(name) - last
	for i := 0; i < len(name); {
		_, size := utf8.DecodeRuneInString(name[i:])
		char := name[i : i+size]
		switch {
		case (i == 0 || i == last) && strings.TrimSpace(char) == "", i == 0 && char == mark:
			text.WriteString("[" + char + "]")
		case strings.Contains(special, char), i == 0 && char == "!":
			text.WriteString(`\` + char)
		default:
			text.WriteString(char)
		}
		i += size
	}
	return text.String()
}
