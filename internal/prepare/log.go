package prepare

import (
	"fmt"
	"io"
	"sync"
)

// log writes lines for a person, from several goroutines.
type log struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *log) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}
