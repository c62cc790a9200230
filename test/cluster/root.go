package cluster

import (
	"path/filepath"
	"runtime"
)

// Root is the repository's root folder.
func Root() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..")
}

// ownDir is the folder of this package.
func ownDir() string { return filepath.Join(Root(), "test", "cluster") }
