package fetch

import (
	"io"
	"time"
)

// progressEvery is how often a long fetch is heard of.
const progressEvery = 5 * time.Second

// progress passes on the lines of a git server. Of those that replace each other
// on a terminal, as each percent of a count does, it passes on one now and then:
// a log keeps them all.
type progress struct {
	out  io.Writer
	now  func() time.Time
	told time.Time // when a line was passed on
	line []byte    // the start of one
}

// maxLine is more than a line of git's has.
const maxLine = 4096

func newProgress(out io.Writer) *progress {
	return &progress{out: out, now: time.Now, told: time.Now()}
}

func (p *progress) Write(text []byte) (int, error) {
	for _, b := range text {
		replaced := b == '\r'
		if ends := replaced || b == '\n'; !ends {
			if p.line = append(p.line, b); len(p.line) < maxLine {
				continue
			}
		}
		if now := p.now(); !replaced || now.Sub(p.told) >= progressEvery {
			p.told = now
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
		p.line = p.line[:0]
	}
	return len(text), nil
}

// flush passes on the line so far, if there is one.
func (p *progress) flush() error {
	if len(p.line) == 0 {
		return nil
	}
	_, err := p.out.Write(append(p.line, '\n'))
	p.line = p.line[:0]
	return err
}
