// Command server prints its version.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"example.com/wild/internal/version"
)

func main() {
	var tasks errgroup.Group
	tasks.Go(func() error {
		_, err := fmt.Println(version.Version)
		return err
	})
	if err := tasks.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
