package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/internal/step"
)

// change is what applying an object did to it.
type change string

const (
	created    change = "created"
	configured change = "configured"
	recreated  change = "recreated"
	unchanged  change = "unchanged"
	pruned     change = "pruned"
)

// changes counts objects by what became of them.
type changes map[change]int

func count(applied []*target, prunings int) changes {
	c := changes{pruned: prunings}
	for _, t := range applied {
		c[t.change()]++
	}
	return c
}

// String is the result "changes": "2 created, 1 configured, 3 unchanged", and
// what is rarer where there is any.
func (c changes) String() string {
	text := fmt.Sprintf("%d created, %d configured, %d unchanged", c[created], c[configured], c[unchanged])
	for _, rare := range []change{recreated, pruned} {
		if c[rare] > 0 {
			text += fmt.Sprintf(", %d %s", c[rare], rare)
		}
	}
	return text
}

// digests is the result "images": the images' digests with spaces between them,
// and how many more there are where a result has no room for all.
func digests(images []image) string {
	const room = step.MaxResult - len(" 1000000 more")
	var text string
	for i, img := range images {
		if len(text)+1+len(img.digest) > room {
			return fmt.Sprintf("%s %d more", text, len(images)-i)
		}
		if i > 0 {
			text += " "
		}
		text += img.digest
	}
	return text
}

// unready is what stops a deploy that has applied everything.
type unready struct {
	applied []*target
	waiting []pending
	waited  time.Duration
}

func (u *unready) Error() string {
	return fmt.Sprintf("%s is not ready: %s", located(u.waiting[0].object), u.waiting[0].message)
}

// conclude makes of what ended a deploy what a person needs. ctx has no
// deadline: explaining has a short one of its own.
func (d *deployment) conclude(ctx context.Context, err error) error {
	var u *unready
	switch {
	case !errors.As(err, &u):
		return err
	case ctx.Err() != nil:
		return step.NotReady(stopped(ctx, u))
	default:
		return step.NotReady(d.explain(ctx, u.waiting, u.waited))
	}
}

// stopped says what a deploy that was told to stop leaves behind.
func stopped(ctx context.Context, u *unready) error {
	var names []string
	for _, p := range u.waiting {
		names = append(names, fmt.Sprintf("%s (%s)", located(p.object), p.message))
	}
	return fmt.Errorf("stopped while waiting: %w; all %d objects are applied, not ready yet: %s; run it again to go on waiting",
		context.Cause(ctx), len(u.applied), strings.Join(names, ", "))
}
