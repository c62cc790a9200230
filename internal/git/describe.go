package git

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Describe names the commit as "git describe --tags --always" does
// (https://git-scm.com/docs/git-describe#_search_strategy): by a tag of it; by
// the tag that the fewest commits separate it from, their number and the
// commit; or where no tag is in reach, by the commit abbreviated.
func (r *Repository) Describe() (string, error) {
	head, err := r.head()
	if err != nil {
		return "", err
	}
	tags, err := r.tags()
	if err != nil {
		return "", err
	}
	if tag := tags[head]; tag != nil {
		return tag.name, nil
	}
	short, err := r.Abbreviate(head.String())
	if err != nil || len(tags) == 0 {
		return short, err
	}
	tag, distance, err := r.nearest(head, tags)
	if err != nil {
		return "", fmt.Errorf("look for the nearest tag: %w", err)
	}
	if tag == nil {
		return short, nil
	}
	return fmt.Sprintf("%s-%d-g%s", tag.name, distance, short), nil
}

// tag is the one by which its commit is called.
type tag struct {
	name      string
	annotated bool
	made      time.Time // of an annotated one
}

// before reports whether t is preferred to other, which comes earlier by name.
func (t *tag) before(other *tag) bool {
	switch {
	case other == nil || t.annotated != other.annotated:
		return other == nil || t.annotated
	default:
		return t.annotated && t.made.After(other.made)
	}
}

func (r *Repository) tags() (map[plumbing.Hash]*tag, error) {
	refs, err := r.store.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("read the tags: %w", err)
	}
	var all []*plumbing.Reference
	if err := refs.ForEach(func(ref *plumbing.Reference) error {
		if ref.Name().IsTag() && ref.Type() == plumbing.HashReference {
			all = append(all, ref)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the tags: %w", err)
	}
	slices.SortFunc(all, func(a, b *plumbing.Reference) int {
		return strings.Compare(a.Name().String(), b.Name().String())
	})
	byCommit := map[plumbing.Hash]*tag{}
	for _, ref := range all {
		commit, made, err := r.peel(ref.Hash())
		if err != nil {
			return nil, fmt.Errorf("read tag %s: %w", ref.Name().Short(), err)
		}
		t := &tag{name: ref.Name().Short(), annotated: commit != ref.Hash(), made: made}
		if t.before(byCommit[commit]) {
			byCommit[commit] = t
		}
	}
	return byCommit, nil
}

// peel follows annotated tags to what they are of. made is the time of the
// first.
func (r *Repository) peel(hash plumbing.Hash) (target plumbing.Hash, made time.Time, err error) {
	for {
		annotated, err := object.GetTag(r.store, hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return hash, made, nil // not a tag object: a lightweight tag, or the end
		}
		if err != nil {
			return hash, made, err
		}
		if made.IsZero() {
			made = annotated.Tagger.When
		}
		hash = annotated.Target
	}
}

// candidates is how many tags are compared.
const candidates = 10

// nearest is the tag in reach of head with the fewest commits between, and
// their number. History ends where a shallow clone does.
func (r *Repository) nearest(head plumbing.Hash, tags map[plumbing.Hash]*tag) (best *tag, distance int, err error) {
	history, err := r.history(head)
	if err != nil {
		return nil, 0, err
	}
	var found []*tag
	var distances []int
	var all uint // a bit for each that is found
	// What is in the history of all is nearer to them than to any other.
	for passed := 0; history.Len() > 0 && (all == 0 || !history.within(all)); passed++ {
		here := history.next()
		if t := tags[here.hash]; t != nil && len(found) < candidates {
			here.within |= 1 << len(found)
			all |= here.within
			// What was passed is newer, so none of it is in this one's history.
			found, distances = append(found, t), append(distances, passed)
		}
		for i := range found {
			if here.within&(1<<i) == 0 {
				distances[i]++
			}
		}
		if err := history.pushParents(here); err != nil {
			return nil, 0, err
		}
	}
	for i, t := range found {
		if best == nil || distances[i] < distance {
			best, distance = t, distances[i]
		}
	}
	return best, distance, nil
}
