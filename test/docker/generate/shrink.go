package generate

import (
	"context"
	"encoding/json"
)

// Tries is how often Shrink asks at most.
const Tries = 400

// Shrink takes things out of c as long as differs says of what is left that it still
// differs: stages, instructions, flags, words, files, and at last anything that can
// be written more simply. It returns the smallest case that differed, c itself if
// nothing could go, and stops when ctx ends.
func Shrink(ctx context.Context, c *Case, differs func(context.Context, *Case) bool) *Case {
	s := shrinker{ctx: ctx, best: c.Clone(), differs: differs, seen: map[string]bool{}, left: Tries}
	s.isNew(s.best)
	for s.pass() {
	}
	return s.best
}

type shrinker struct {
	ctx     context.Context
	best    *Case
	differs func(context.Context, *Case) bool
	seen    map[string]bool // cases that were asked about
	left    int
}

// pass tries all edits, and returns whether one of them stayed and there may be more.
func (s *shrinker) pass() bool {
	better := false
	for _, e := range edits {
		for s.chunks(e) {
			better = true
			if !e.again {
				break
			}
		}
	}
	return better && s.goesOn()
}

func (s *shrinker) goesOn() bool { return s.left > 0 && s.ctx.Err() == nil }

// chunks makes an edit at many places at once, then at fewer, then at each: most of
// a case has nothing to do with a difference.
func (s *shrinker) chunks(e edit) bool {
	better := false
	for size := e.places(s.best); size > 0; size /= 2 {
		if e.single && size > 1 {
			size = 1
		}
		// From the end: what comes later seldom needs to stay for what is before it.
		for end := e.places(s.best); end > 0 && s.goesOn(); {
			from := max(end-size, 0)
			smaller := s.best.Clone()
			for n := end - 1; n >= from; n-- {
				if n < e.places(smaller) {
					e.apply(smaller, n)
				}
			}
			smaller.tidy()
			if s.try(smaller) {
				better = true
			}
			end = min(from, e.places(s.best))
		}
	}
	return better
}

// try keeps a case if it still differs.
func (s *shrinker) try(c *Case) bool {
	if !s.isNew(c) || !s.goesOn() {
		return false
	}
	s.left--
	if !s.differs(s.ctx, c.Clone()) || s.ctx.Err() != nil {
		return false
	}
	s.best = c
	return true
}

func (s *shrinker) isNew(c *Case) bool {
	key, err := json.Marshal(c)
	if err != nil || s.seen[string(key)] {
		return false
	}
	s.seen[string(key)] = true
	return true
}
