package cluster

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells a waiting person which part of how many is under way, and for
// how long.
type progress struct {
	out   io.Writer
	total int
	start time.Time

	mu sync.Mutex
	n  int
}

// tellEvery is how often a step that takes long says that it still works.
const tellEvery = 15 * time.Second

// step runs one part of the work, saying what it is before and how long it
// took after.
func (p *progress) step(ctx context.Context, what string, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	p.mu.Lock()
	p.n++
	label := fmt.Sprintf("[%2d/%d] %s", p.n, p.total, what)
	p.mu.Unlock()
	start := time.Now()
	finished := make(chan struct{})
	var told sync.WaitGroup
	told.Go(func() {
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for {
			select {
			case <-finished:
				return
			case <-tick.C:
				p.say("%s … %s", label, seconds(time.Since(start)))
			}
		}
	})
	err := do(ctx)
	close(finished)
	told.Wait()
	if err != nil {
		p.say("%s: failed after %s", label, seconds(time.Since(start)))
		return err
	}
	p.say("%s  %s", label, seconds(time.Since(start)))
	return nil
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%7s  %s\n", seconds(time.Since(p.start)), fmt.Sprintf(format, args...))
}

func seconds(d time.Duration) string {
	if d < 100*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d:%02d min", int(d.Minutes()), int(d.Seconds())%60)
}
