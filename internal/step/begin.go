package step

// Begin calls f beside what follows. What it returns waits for f's end, as often
// as it is called, and has f's results.
func Begin[T any](f func() (T, error)) (wait func() (T, error)) {
	var result T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = f()
	}()
	return func() (T, error) {
		<-done
		return result, err
	}
}
