package gocache

// SetFlock replaces the system call.
func SetFlock(f func(fd, how int) error) (restore func()) {
	was := flock
	flock = f
	return func() { flock = was }
}
