package generate

import (
	"bytes"
	"encoding/json"
	"strings"
)

// String is the Dockerfile.
func (c *Case) String() string {
	var b strings.Builder
	if c.Escape != "" {
		b.WriteString("# escape=" + c.Escape + "\n")
	}
	escape := c.escape()
	for _, i := range c.Globals {
		i.render(&b, escape)
	}
	for n, s := range c.Stages {
		if n > 0 || len(c.Globals) > 0 {
			b.WriteString("\n")
		}
		b.WriteString(s.from() + "\n")
		for _, i := range s.Body {
			i.render(&b, escape)
		}
	}
	if c.CRLF {
		return strings.ReplaceAll(b.String(), "\n", "\r\n")
	}
	return b.String()
}

// escape is the character before one that is meant as it is.
func (c *Case) escape() string {
	if c.Escape == "" {
		return `\`
	}
	return c.Escape
}

func (s Stage) from() string {
	words := []string{"FROM"}
	if s.Platform != "" {
		words = append(words, "--platform="+s.Platform)
	}
	words = append(words, s.Base)
	if s.Name != "" {
		words = append(words, "AS", s.Name)
	}
	if s.Lower {
		words[0] = "from"
		if s.Name != "" {
			words[len(words)-2] = "as"
		}
	}
	return strings.Join(words, " ")
}

func (i Instruction) render(b *strings.Builder, escape string) {
	if i.Comment != "" {
		b.WriteString("# " + i.Comment + "\n")
	}
	name := i.Name
	if i.OnBuild {
		name = "ONBUILD " + name
	}
	if i.Lower {
		name = strings.ToLower(name)
	}
	// A break is a blank, or the end of a line that goes on in the next one.
	space := " "
	if i.Breaks {
		space = " " + escape + "\n    "
	}
	b.WriteString(name)
	for n, flag := range i.Flags {
		if n > 0 {
			b.WriteString(space)
		} else {
			b.WriteString(" ")
		}
		b.WriteString(flag)
	}
	if len(i.Flags) > 0 {
		b.WriteString(space)
	} else {
		b.WriteString(" ")
	}
	if i.Keyword != "" {
		b.WriteString(i.Keyword + " ")
	}
	if i.Breaks && i.Inside != "" {
		space = " " + escape + "\n# " + i.Inside + "\n    "
	}
	if i.JSON {
		b.WriteString("[")
		for n, w := range i.Words {
			if n > 0 {
				b.WriteString("," + space)
			}
			b.WriteString(quoteJSON(w))
		}
		b.WriteString("]")
	} else {
		for n, w := range i.Words {
			if n > 0 {
				b.WriteString(i.between(space))
			}
			b.WriteString(w)
		}
	}
	b.WriteString("\n")
	for _, d := range i.Docs {
		for _, line := range d.Lines {
			b.WriteString(line + "\n")
		}
		if d.Chomp {
			b.WriteString("\t")
		}
		b.WriteString(d.Name + "\n")
	}
}

// between joins two words: a line that is continued begins with && but ends with ;.
func (i Instruction) between(space string) string {
	switch i.Glue {
	case "":
		return space
	case ";":
		return ";" + space
	default:
		return space + i.Glue + " "
	}
}

func quoteJSON(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // of a string, into memory
	return strings.TrimSuffix(b.String(), "\n")
}
