package deploy

import (
	"context"
	"fmt"
	"strings"
)

// change is what applying an object did to it.
type change string

const (
	created    change = "created"
	configured change = "configured"
	unchanged  change = "unchanged"
)

// changes counts objects by what became of them.
type changes map[change]int

func count(applied []*target) changes {
	c := changes{}
	for _, t := range applied {
		c[t.change()]++
	}
	return c
}

// String is the result "changes": "2 created, 1 configured, 3 unchanged".
func (c changes) String() string {
	return fmt.Sprintf("%d created, %d configured, %d unchanged", c[created], c[configured], c[unchanged])
}

// stopped says what a deploy that was told to stop leaves behind.
func stopped(ctx context.Context, applied []*target, waiting []pending) error {
	var names []string
	for _, p := range waiting {
		names = append(names, fmt.Sprintf("%s (%s)", located(p.object), p.message))
	}
	return fmt.Errorf("stopped while waiting: %w; all %d objects are applied, not ready yet: %s; run it again to go on waiting",
		context.Cause(ctx), len(applied), strings.Join(names, ", "))
}
