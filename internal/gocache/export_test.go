package gocache

// SetFlock replaces the system call.
func SetFlock(f func(fd, how int) error) (restore func()) {
	was := flock
	flock = f
	return func() { flock = was }
}

// SetExchange replaces the system call.
func SetExchange(f func(one, other string) error) (restore func()) {
	was := exchange
	exchange = f
	return func() { exchange = was }
}

// Beside is closed when what goes on beside the build has ended.
func (t *Tidying) Beside() <-chan struct{} { return t.beside }

// Excess says how many bytes and files may stay on a volume, if there are too
// many of either.
func Excess(size int64, heldBytes, heldFiles, total, free, files, freeFiles int64) (stayBytes, stayFiles int64, over bool) {
	stay, over := excess(size, Part{Bytes: heldBytes, Files: heldFiles}, space{total, free, files, freeFiles})
	return stay.Bytes, stay.Files, over
}

// Abandon is what a kill does.
func (u *Unfinished) Abandon() { _ = u.file.Close() }
