package kaniko_test

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/plan"
)

// A build that fails on a volume that has become full starts again without its
// caches, and only if that may be why.
func TestRunGoesOnWithoutAFullVolume(t *testing.T) {
	t.Parallel()
	const full = "/proc/self" // no file system has less room
	for name, tc := range map[string]struct {
		behaviour string
		volume    string
		code      int
		again     bool
	}{
		"full":                         {"no room", full, 0, true},
		"there is room":                {"no room", "", 1, false},
		"another reason":               {"compile error", full, 1, true},
		"full, and it does not matter": {"succeed", full, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			volume := cmp.Or(tc.volume, t.TempDir())
			link := filepath.Join(t.TempDir(), "mod")
			goMod := t.TempDir()
			// Private modules, which go commands cannot download here. Of one the
			// hash is lost.
			downloads := filepath.Join(goMod, "cache/download/corp.example/lib/@v")
			if err := os.MkdirAll(downloads, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, version := range []string{"v1.0.0", "v1.1.0"} {
				for kind, content := range map[string]string{".info": "{}", ".mod": "module", ".zip": "PK", ".ziphash": map[string]string{"v1.0.0": "h1:"}[version]} {
					if err := os.WriteFile(filepath.Join(downloads, version+kind), []byte(content), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			cmd, stderr := newStep(t, tc.behaviour, func(p *plan.Plan) {
				p.Cache = &plan.Cache{Volume: volume, GoMod: goMod}
				p.Links = []plan.Link{{Path: link, Target: p.Cache.GoMod}}
				p.Env["GOMODCACHE_LINK"], p.Env["GOMODCACHE_FULL"] = link, p.Cache.GoMod
			})
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != tc.code {
				t.Errorf("exit code %d, want %d\n%s", got, tc.code, stderr)
			}
			if says := strings.Contains(stderr.String(), "left on the volume, which may be why a go command failed: the build starts again without those of the volume"); says != tc.again {
				t.Errorf("it starts again: %t, want %t\n%s", says, tc.again, stderr)
			}
			const found = "there is v1.0.0.info\nthere is v1.0.0.mod\nthere is v1.0.0.zip\nthere is v1.0.0.ziphash\nthere is v1.1.0.info\nthere is v1.1.0.mod\n"
			if finds := strings.Contains(stdout.String(), found); finds != (tc.again && tc.code == 0) {
				t.Errorf("the downloads are found: %t, want\n%s\ngot\n%s", finds, found, &stdout)
			}
			if left, err := os.ReadDir(downloads); err != nil || len(left) != 8 {
				t.Errorf("the volume has %v, %v", left, err)
			}
			if hash, err := os.ReadFile(filepath.Join(downloads, "v1.1.0.ziphash")); err != nil || len(hash) > 0 {
				t.Errorf("on the volume is written %q, %v", hash, err)
			}
		})
	}
}

// The step takes over what prepare has held, says how the caches are, and
// leaves the last word to why a build failed.
func TestRunTakesOverTheCaches(t *testing.T) {
	t.Parallel()
	for behaviour, wantLast := range map[string]string{
		"succeed": "caches: go-build ",
		"a RUN":   "Dockerfile:7: RUN go build -o /app .: failed after ",
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
				p.Dockerfile, p.Runs = "Dockerfile", []plan.Run{{Line: 7, Text: "go build -o /app .", As: "go build -o /app ."}}
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

// A folder that cannot be held has the lease alone.
func TestALeaseStaysWithoutAHold(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	elsewhere, link := t.TempDir(), filepath.Join(volume, "go-build")
	lease := filepath.Join(link, ".lease-1")
	if err := errors.Join(os.Symlink(elsewhere, link), os.WriteFile(lease, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd, stderr := newStep(t, "compile error", func(p *plan.Plan) {
		p.Cache = &plan.Cache{Volume: volume, Holds: []string{link}, Leases: []string{lease}}
	})
	_ = cmd.Run()
	if _, err := os.Stat(filepath.Join(elsewhere, ".lease-1")); err != nil || !strings.Contains(stderr.String(), "caches: open "+link+": ") {
		t.Errorf("%v\n%s", err, stderr)
	}
}
