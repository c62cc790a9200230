package prepare

import (
	"fmt"
	"io"
	"sync"

	"github.com/slipway-ci/slipway/internal/gocache"
)

// log writes lines for a person, from several goroutines.
type log struct {
	mu     sync.Mutex
	out    io.Writer
	unused []string // which caches this build does not use, and why
}

func (l *log) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}

// notUsed says that the build does not use a cache, and keeps it for the report.
func (l *log) notUsed(cache gocache.Name, format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	l.printf("cache %s is not used by this build: %s", cache, why)
	l.unused = append(l.unused, string(cache)+": "+why)
}
