package kaniko_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// A build that fails on a full volume may have failed of that.
func TestRunSaysThatTheVolumeIsFull(t *testing.T) {
	t.Parallel()
	for behaviour, blamed := range map[string]bool{"succeed": false, "compile error": true} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			cmd, stderr := newStep(t, behaviour, func(p *plan.Plan) {
				p.Cache = &plan.Cache{Volume: "/proc/self", GoBuild: t.TempDir()} // no file system has less room
			})
			_ = cmd.Run()
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if got := strings.HasPrefix(lines[len(lines)-1], "caches: /proc/self: only 0B left on the volume: if that is why a go command failed, run the build again"); got != blamed {
				t.Errorf("it blames the volume: %t, want %t\n%s", got, blamed, stderr)
			}
		})
	}
}

// The step takes over what prepare has held, says how the caches are, and
// leaves a failed build's last word to kaniko.
func TestRunTakesOverTheCaches(t *testing.T) {
	t.Parallel()
	for behaviour, wantLast := range map[string]string{
		"succeed":       "caches: go-build ",
		"compile error": "./main.go:7:2: undefined: x",
	} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			volume := t.TempDir()
			held, err := gocache.OpenHeld(volume, gocache.GoBuild, 0)
			if err != nil {
				t.Fatal(err)
			}
			lease, err := held.Lease()
			if err != nil {
				t.Fatal(err)
			}
			late := filepath.Join(volume, "go-mod")
			cmd, stderr := newStep(t, behaviour, func(p *plan.Plan) {
				p.Cache = &plan.Cache{
					Volume: volume, GoBuild: held.Path(), GoMod: late,
					Holds: []string{held.Path(), late}, Leases: []string{lease},
				}
			})
			if err := cmd.Run(); err != nil == (behaviour == "succeed") {
				t.Error(err)
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if want := "caches: " + late + " was removed, as this step has begun so late after prepare: the build starts with an empty one"; lines[0] != want {
				t.Errorf("the log begins with\n%s\nwant\n%s", lines[0], want)
			}
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, wantLast) {
				t.Errorf("the last line is\n%s\nwant\n%s", last, wantLast)
			}
			if _, err := os.Stat(lease); err == nil {
				t.Error("the lease is still there")
			}
			if info, err := os.Stat(late); err != nil || !info.IsDir() || info.Mode().Perm() != 0o777 {
				t.Errorf("the module cache is %v, %v", info, err)
			}
		})
	}
}
