// Package steptest runs a step's program in a test, as its Task does. The test
// binary is that program: its TestMain calls main where the environment says so.
package steptest

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"
)

// Command is this program with no other environment than env; its standard
// error goes to the buffer.
func Command(t testing.TB, args []string, env map[string]string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	for _, key := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, key+"="+env[key])
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

// Run runs it to its end.
func Run(t testing.TB, args []string, env map[string]string) (code int, stderr string) {
	t.Helper()
	cmd, out := Command(t, args, env)
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String()
}

// Array is args with values added to the array param name, which is there, as
// [step.Arrays] reads them.
func Array(args []string, name string, values ...string) []string {
	return slices.Insert(slices.Clone(args), slices.Index(args, name)+1, values...)
}
