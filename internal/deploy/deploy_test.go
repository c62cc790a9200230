package deploy

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/step"
)

// TestRunRefuses: what is wrong with the step's own input is said before any
// cluster is asked.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	source := tree(t, "", map[string]string{"overlay/kustomization.yaml": "configMapGenerator: [{name: conf, literals: [a=b]}]\n"})
	kubeconfig := t.TempDir()
	const content = "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(filepath.Join(kubeconfig, "kubeconfig"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		env    map[string]string
		images []string
		want   string
	}{
		"no overlay":         {env: map[string]string{"PARAM_OVERLAY": "", "WORKSPACE_KUBECONFIG_PATH": kubeconfig}, want: "overlay is empty"},
		"no name":            {env: map[string]string{"PARAM_NAME": "", "WORKSPACE_KUBECONFIG_PATH": kubeconfig}, want: "the deploy has no image to be named after"},
		"bad name":           {env: map[string]string{"PARAM_NAME": "App", "WORKSPACE_KUBECONFIG_PATH": kubeconfig}, want: `name "App": give at most`},
		"unknown verb":       {env: map[string]string{"PARAM_VERB": "undo"}, want: `verb "undo": give apply, diff, render, delete or rollback`},
		"bad event time":     {env: map[string]string{"PARAM_EVENT_TIME": "noon", "WORKSPACE_KUBECONFIG_PATH": kubeconfig}, want: `event-time "noon"`},
		"timeout of nothing": {env: map[string]string{"PARAM_TIMEOUT": "0s"}, want: "timeout 0s: give a duration above 0, such as 5m"},
		"timeout in words":   {env: map[string]string{"PARAM_TIMEOUT": "five minutes"}, want: "five minutes"},
		"image by tag":       {images: []string{"r.test/feed-agg:v1"}, want: `image "r.test/feed-agg:v1" has no digest`},
		"no cluster":         {want: "no cluster to deploy to: this does not run in one; bind the workspace kubeconfig"},
		"context alone":      {env: map[string]string{"PARAM_CONTEXT": "prod"}, want: `context "prod" is given without a kubeconfig; bind the workspace kubeconfig`},
		"empty workspace":    {env: map[string]string{"WORKSPACE_KUBECONFIG_PATH": t.TempDir()}, want: "the kubeconfig workspace has no file named kubeconfig"},
		"unknown context":    {env: map[string]string{"WORKSPACE_KUBECONFIG_PATH": kubeconfig, "PARAM_CONTEXT": "prod"}, want: `context "prod" does not exist`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"WORKSPACE_SOURCE_PATH": source, "PARAM_OVERLAY": "overlay", "PARAM_TIMEOUT": "5m", "PARAM_VERB": "apply", "PARAM_NAME": "app"}
			maps.Copy(env, tc.env)
			err := Run(t.Context(), append([]string{"--images"}, tc.images...), envconfig.MapLookuper(env), io.Discard)
			if step.ExitCode(err) != step.ExitBadInput || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want bad input: %s", err, tc.want)
			}
		})
	}
}
