package deploy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/internal/step"
)

// TestBombs runs the program on overlays that are small and render to more than
// any machine has: it ends in time, within its Task's memory, having said why.
func TestBombs(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "deploy")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/slipway-ci/slipway/cmd/deploy").CombinedOutput(); err != nil {
		t.Fatalf("build it: %v\n%s", err, output)
	}
	const limit = 512 // MiB: tasks/deploy.yaml
	for name, tc := range map[string]struct {
		files   map[string]string
		timeout string
		says    string
	}{
		"anchors": {files: laughs(), says: "takes more than 384 MiB of memory"},
		"bases":   {files: doubling(24), timeout: "500ms", says: "stopped while rendering: the param timeout, 500ms, is over; nothing was changed"},
		"components": {files: map[string]string{
			"overlay/kustomization.yaml": "components: [../c]\n",
			"c/kustomization.yaml":       component + "components: [../d]\n",
			"d/kustomization.yaml":       component + "components: [../c]\n",
		}, says: "cycle"},
		"replacements": {files: replacements(), says: "renders to more than 32 MiB"},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: each may take half a GiB
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var log bytes.Buffer
			cmd := exec.CommandContext(ctx, binary)
			cmd.Stdout, cmd.Stderr = &log, &log
			if tc.timeout == "" {
				tc.timeout = "1h"
			}
			cmd.Env = []string{"PARAM_VERB=render", "PARAM_OVERLAY=overlay", "PARAM_PRUNE=true", "PARAM_TIMEOUT=" + tc.timeout, "WORKSPACE_SOURCE_PATH=" + tree(t, "", tc.files)}
			err := cmd.Run()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != step.ExitBadInput || !strings.Contains(log.String(), tc.says) {
				t.Errorf("%v, want exit code %d and %q:\n%.2000s", err, step.ExitBadInput, tc.says, &log)
			}
			if log.Len() > 4<<10 {
				t.Errorf("it prints %d bytes", log.Len())
			}
			if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); !ok || usage.Maxrss>>10 > limit {
				t.Errorf("it took %d MiB, its Task gives it %d", usage.Maxrss>>10, limit)
			}
		})
	}
}

const component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"

// laughs is a list of ten lists of ten lists ..., each but the last an alias.
func laughs() map[string]string {
	bomb := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nl0: &l0 [lol]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("l%d: &l%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d,", i), 10), ","))
	}
	return map[string]string{"overlay/kustomization.yaml": "resources: [bomb.yaml]\n", "overlay/bomb.yaml": bomb}
}

// doubling is a base, and levels of two folders that both build on both below.
func doubling(levels int) map[string]string {
	files := map[string]string{
		"overlay/kustomization.yaml": fmt.Sprintf("resources: [../a%d, ../b%d]\n", levels, levels),
		"a0/kustomization.yaml":      "namePrefix: a-\nconfigMapGenerator: [{name: m, literals: [a=b]}]\n",
		"b0/kustomization.yaml":      "namePrefix: b-\nconfigMapGenerator: [{name: m, literals: [a=b]}]\n",
	}
	for i := range levels {
		for _, side := range []string{"a", "b"} {
			files[fmt.Sprintf("%s%d/kustomization.yaml", side, i+1)] = fmt.Sprintf("namePrefix: %s-\nresources: [../a%d, ../b%d]\n", side, i, i)
		}
	}
	return files
}

// replacements copy one large value to many objects.
func replacements() map[string]string {
	var all strings.Builder
	for i := range 100 {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m-%d}\ndata: {v: x}\n", i)
	}
	return map[string]string{
		"overlay/kustomization.yaml": "resources: [all.yaml]\nconfigMapGenerator: [{name: large, files: [v]}]\n" +
			"replacements: [{source: {kind: ConfigMap, name: large, fieldPath: data.v}, targets: [{select: {kind: ConfigMap}, reject: [{name: large}], fieldPaths: [data.v]}]}]\n",
		"overlay/all.yaml": all.String(),
		"overlay/v":        strings.Repeat("0123456789abcdef\n", 1<<20/17),
	}
}

// TestSourceLimit: what is read is bounded as well.
func TestSourceLimit(t *testing.T) {
	t.Parallel()
	big := tree(t, "", map[string]string{
		"overlay/kustomization.yaml": "configMapGenerator: [{name: c, files: [a, b]}]\n",
		"overlay/a":                  "", "overlay/b": "",
	})
	for _, name := range []string{"a", "b"} {
		if err := os.Truncate(filepath.Join(big, "overlay", name), maxSource/2+1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := render(big, []string{"overlay"}, nil, nil, ""); err == nil || !strings.Contains(err.Error(), "more than 64 MiB would be read") {
		t.Errorf("a source that is too big: %v", err)
	}
}
