package step

import "time"

// Every calls f after each interval until stop is called, beside what takes long.
func Every(interval time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	ticker := time.NewTicker(interval)
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				f()
			}
		}
	}()
	return func() { close(done) }
}
