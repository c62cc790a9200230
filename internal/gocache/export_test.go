package gocache

// SetFlock replaces the system call.
func SetFlock(f func(fd, how int) error) (restore func()) {
	was := flock
	flock = f
	return func() { flock = was }
}

// Beside is closed when what goes on beside the build has ended.
func (t *Tidying) Beside() <-chan struct{} { return t.beside }
