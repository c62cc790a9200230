package cleanup_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/cleanup"
	"github.com/slipway-ci/slipway/internal/step"
)

// claim makes a claim with a cache and two runs, the second untouched for two
// days, and returns its directory of runs.
func claim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	runs := filepath.Join(dir, "runs")
	for _, file := range []string{"cache/object", "runs/new/.git/config", "runs/old/main.go"} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../cache", filepath.Join(runs, "new", "link")); err != nil {
		t.Fatal(err)
	}
	twoDaysAgo := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(runs, "old"), twoDaysAgo, twoDaysAgo); err != nil {
		t.Fatal(err)
	}
	return runs
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		name, olderThan string
		code            int
		says            string
		left            string
	}{
		"the run and what was killed": {"new", "24h", 0, "removed run old, untouched since", "cache"},
		"the run alone":               {"new", "0", 0, "removed run new", "cache runs/old"},
		"no sweep by default":         {"new", "", 0, "removed run new", "cache runs/old"},
		"younger than the limit":      {"new", "72h", 0, "removed run new", "cache runs/old"},
		"a run that is gone":          {"gone", "", 0, "run gone has left nothing", "cache runs/new runs/old"},
		"parent":                      {"..", "24h", step.ExitBadInput, `param name is ".."`, "cache runs/new runs/old"},
		"all":                         {".", "24h", step.ExitBadInput, `param name is "."`, "cache runs/new runs/old"},
		"sibling":                     {"../cache", "", step.ExitBadInput, `param name is "../cache"`, "cache runs/new runs/old"},
		"inside":                      {"new/.git", "", step.ExitBadInput, `param name is "new/.git"`, "cache runs/new runs/old"},
		"trailing separator":          {"new/", "", step.ExitBadInput, `param name is "new/"`, "cache runs/new runs/old"},
		"absolute":                    {"/", "", step.ExitBadInput, `param name is "/"`, "cache runs/new runs/old"},
		"no name":                     {"", "", step.ExitBadInput, "PARAM_NAME", "cache runs/new runs/old"},
		"no duration":                 {"new", "soon", step.ExitBadInput, "OlderThan", "cache runs/new runs/old"},
		"negative":                    {"new", "-1h", step.ExitBadInput, "param older-than is -1h0m0s", "cache runs/new runs/old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runs := claim(t)
			var log bytes.Buffer
			err := cleanup.Run(t.Context(), envconfig.MapLookuper(map[string]string{
				"WORKSPACE_RUNS_PATH": runs,
				"PARAM_NAME":          tc.name,
				"PARAM_OLDER_THAN":    tc.olderThan,
			}), &log)
			if err != nil {
				log.WriteString(err.Error())
			}
			if step.ExitCode(err) != tc.code || !strings.Contains(log.String(), tc.says) {
				t.Errorf("exit code %d, want %d with %q:\n%s", step.ExitCode(err), tc.code, tc.says, &log)
			}
			var left []string
			for _, path := range []string{"cache", "runs/new", "runs/old"} {
				if _, err := os.Stat(filepath.Join(filepath.Dir(runs), path)); err == nil {
					left = append(left, path)
				}
			}
			if got := strings.Join(left, " "); got != tc.left {
				t.Errorf("left %q, want %q", got, tc.left)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(runs), "cache", "object")); err != nil {
				t.Errorf("followed a link out of the run: %v", err)
			}
		})
	}
}

func TestRunIsDoneWhenRunAgain(t *testing.T) {
	t.Parallel()
	env := envconfig.MapLookuper(map[string]string{"WORKSPACE_RUNS_PATH": claim(t), "PARAM_NAME": "new", "PARAM_OLDER_THAN": "24h"})
	for range 2 {
		if err := cleanup.Run(t.Context(), env, &bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	}
}

// stuck is a log whose first line ends the run and is never taken, as a removal
// that does not come to an end would be.
type stuck struct {
	cancel  context.CancelFunc
	release chan struct{}
}

func (s stuck) Write(p []byte) (int, error) {
	s.cancel()
	<-s.release
	return len(p), nil
}

func TestRunEndsWhenTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	log := stuck{cancel, make(chan struct{})}
	defer close(log.release)
	err := cleanup.Run(ctx, envconfig.MapLookuper(map[string]string{"WORKSPACE_RUNS_PATH": claim(t), "PARAM_NAME": "new"}), log)
	if step.ExitCode(err) != step.ExitFailed || !strings.Contains(err.Error(), "the next run's cleanup removes the rest") {
		t.Error(err)
	}
}
