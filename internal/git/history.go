package git

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// history is a walk from a commit to those before it, the newest first.
type history struct {
	repository *Repository
	shallow    []plumbing.Hash // commits whose parents are not there
	seen       map[plumbing.Hash]*step
	steps      []*step // a heap of those that are still to come
}

// step is a commit of a history. within has a bit for each tag that it is in
// the history of.
type step struct {
	hash    plumbing.Hash
	parents []plumbing.Hash
	made    time.Time
	within  uint
	order   int // of being seen
}

func (r *Repository) history(head plumbing.Hash) (*history, error) {
	shallow, err := r.store.Shallow()
	if err != nil {
		return nil, fmt.Errorf("read where the clone is shallow: %w", err)
	}
	h := &history{repository: r, shallow: shallow, seen: map[plumbing.Hash]*step{}}
	return h, h.push(head, 0)
}

func (h *history) push(hash plumbing.Hash, within uint) error {
	if s := h.seen[hash]; s != nil {
		s.within |= within
		return nil
	}
	commit, err := object.GetCommit(h.repository.store, hash)
	if err != nil {
		return fmt.Errorf("read commit %s: %w", hash, err)
	}
	s := &step{hash: hash, parents: commit.ParentHashes, made: commit.Committer.When, within: within, order: len(h.seen)}
	if slices.Contains(h.shallow, hash) {
		s.parents = nil
	}
	h.seen[hash] = s
	heap.Push(h, s)
	return nil
}

func (h *history) next() *step { return heap.Pop(h).(*step) }

func (h *history) pushParents(s *step) error {
	for _, parent := range s.parents {
		if err := h.push(parent, s.within); err != nil {
			return err
		}
	}
	return nil
}

// within reports whether all that is to come has the bits.
func (h *history) within(bits uint) bool {
	return !slices.ContainsFunc(h.steps, func(s *step) bool { return s.within&bits != bits })
}

func (h *history) Len() int { return len(h.steps) }

func (h *history) Less(i, j int) bool {
	a, b := h.steps[i], h.steps[j]
	if !a.made.Equal(b.made) {
		return a.made.After(b.made)
	}
	return a.order < b.order
}

func (h *history) Swap(i, j int) { h.steps[i], h.steps[j] = h.steps[j], h.steps[i] }

func (h *history) Push(s any) { h.steps = append(h.steps, s.(*step)) }

func (h *history) Pop() any {
	last := len(h.steps) - 1
	s := h.steps[last]
	h.steps = h.steps[:last]
	return s
}
