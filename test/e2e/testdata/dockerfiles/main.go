// Command greet is built in many ways, and says where its source was.
package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
)

func main() {
	var greeting errgroup.Group
	greeting.Go(func() error {
		_, file, line, _ := runtime.Caller(0)
		_, err := fmt.Printf("%s:%d of %s\n", file, line, runtime.Version())
		return err
	})
	if err := greeting.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
