package checkcache_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/checkcache"
	"github.com/slipway-ci/slipway/internal/step"
)

func TestRunSaysWhatWasDamaged(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	name := strings.Repeat("0", 64) + "-d"
	object := filepath.Join(volume, "go-build", "00", name)
	if err := os.MkdirAll(filepath.Dir(object), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(object, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(object, old, old); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"^go-build/00/" + name + " is damaged and was removed: its content has another hash than its name\ncache: 1 entries read, 1 damaged, [0-9.]+ s\n$",
		"^cache: 0 entries read, 0 damaged, [0-9.]+ s\n$",
	} {
		var log bytes.Buffer
		err := checkcache.Run(t.Context(), envconfig.MapLookuper(map[string]string{"WORKSPACE_CACHE_PATH": volume}), &log)
		if err != nil || !regexp.MustCompile(want).MatchString(log.String()) {
			t.Errorf("%v; the log is\n%s", err, &log)
		}
	}
}

func TestRunWithoutAVolume(t *testing.T) {
	t.Parallel()
	err := checkcache.Run(t.Context(), envconfig.MapLookuper(nil), &bytes.Buffer{})
	if step.ExitCode(err) != step.ExitBadInput {
		t.Errorf("got %v", err)
	}
	absent := filepath.Join(t.TempDir(), "absent")
	err = checkcache.Run(t.Context(), envconfig.MapLookuper(map[string]string{"WORKSPACE_CACHE_PATH": absent}), &bytes.Buffer{})
	if step.ExitCode(err) != step.ExitFailed || !strings.Contains(err.Error(), absent) {
		t.Errorf("got %v", err)
	}
}
