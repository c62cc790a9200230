package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// casesDir has a folder for each case.
const casesDir = "testdata/cases"

// builders are started by the first test that needs them, and are all tests'.
// What BuildKit makes of a case it makes once.
var builders = sync.OnceValues(func() (*oracle.Oracle, error) {
	started = true
	return oracle.New(context.Background(), oracle.Remember(casesDir))
})

var started bool

func TestMain(m *testing.M) {
	code := m.Run()
	if started {
		if o, err := builders(); err == nil {
			if err := o.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "stop the builders:", err)
				code = max(code, 1)
			}
		}
	}
	os.Exit(code)
}

func startedBuilders(t *testing.T) *oracle.Oracle {
	t.Helper()
	o, err := builders()
	if err != nil {
		t.Fatal(err)
	}
	return o
}
