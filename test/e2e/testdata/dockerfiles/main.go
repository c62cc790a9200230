// Command greet is built in many ways, and says where its source was.
package main

import (
	"fmt"
	"os"
	"runtime"

	"go.yaml.in/yaml/v3"
)

func main() {
	_, file, line, _ := runtime.Caller(0)
	out, err := yaml.Marshal(map[string]any{"file": file, "line": line, "version": runtime.Version()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(string(out))
}
