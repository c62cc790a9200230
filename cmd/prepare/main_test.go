package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/slipway-ci/slipway/internal/step"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The test binary is also the program under test.
func TestMain(m *testing.M) {
	if os.Getenv("BE_PREPARE") != "" {
		main()
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// The seed's Dockerfiles as they are, /workspace included.
func TestSeed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"baseline", "final"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.write(t, "source/Dockerfile", readTestdata(t, name+".Dockerfile"))
			w.write(t, "source/Dockerfile.dockerignore", "*.md\n")
			w.write(t, "source/conf.yaml", "")
			log := w.mustRun(t)
			golden(t, name+".plan.json", w.still(w.read(t, "prepared/plan.json")))
			golden(t, name+".derived.Dockerfile", w.still(w.read(t, "prepared/Dockerfile")))
			golden(t, name+".log", w.still(inOrder(log)))
			if got := w.read(t, "prepared/Dockerfile.dockerignore"); got != "*.md\n" {
				t.Errorf("the Dockerfile's own .dockerignore became %q", got)
			}
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.Stat(program)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.Stat(w.path("prepared/bin/prepare")); err != nil || got.Size() != want.Size() || got.Mode().Perm() != 0o755 {
				t.Errorf("the program for the build step: %v, %v", got, err)
			}
			for _, digest := range []string{w.golang, w.distroless} {
				if _, err := os.Stat(w.path("prepared/bases", digest, "index.json")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestBasesAreDownloadedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	if log := w.mustRun(t); !strings.Contains(log, "base golang:alpine is "+w.golang[:19]+": downloading ") {
		t.Errorf("the first time:\n%s", log)
	}
	first := w.blobs.Load()
	if first == 0 {
		t.Fatal("no blob was downloaded")
	}
	if log := w.mustRun(t); !strings.Contains(log, "base golang:alpine is "+w.golang[:19]+": cached, ") {
		t.Errorf("the second time:\n%s", log)
	}
	if again := w.blobs.Load(); again != first {
		t.Errorf("%d blobs the first time, %d more the second", first, again-first)
	}

	// By digest, the registry is not asked at all.
	w.write(t, "source/Dockerfile", "FROM golang:alpine@"+w.golang+"\n")
	w.args = []string{"--registry-mirrors", "127.0.0.1:1"}
	if log := w.mustRun(t); !strings.Contains(log, ": cached, ") {
		t.Errorf("by digest:\n%s", log)
	}
}

func TestADamagedBaseIsFetchedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	w.mustRun(t)
	blobs, err := filepath.Glob(w.path("cache/bases", w.golang, "blobs/sha256/*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("%q, %v", blobs, err)
	}
	for _, blob := range blobs {
		if err := os.Truncate(blob, 3); err != nil {
			t.Fatal(err)
		}
	}
	log := w.mustRun(t)
	if !strings.Contains(log, "base golang:alpine: what the cache has is not used: damaged: ") || !strings.Contains(log, ": downloading ") {
		t.Errorf("got\n%s", log)
	}
	if log := w.mustRun(t); !strings.Contains(log, ": cached, ") {
		t.Errorf("after that:\n%s", log)
	}
}

func TestACacheProblemNeverFailsABuild(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		breakIt func(t *testing.T, w *world)
		want    string
	}{
		"none bound": {func(_ *testing.T, w *world) { w.env["WORKSPACE_CACHE_PATH"] = "" }, "caches: no workspace cache is bound, so this build starts with none"},
		"gone":       {func(_ *testing.T, w *world) { w.env["WORKSPACE_CACHE_PATH"] = w.path("absent") }, "cache go-mod is not used by this build: "},
		"read-only":  {func(_ *testing.T, w *world) { w.env["WORKSPACE_CACHE_PATH"] = "/proc/self" }, "cache bases is not used by this build: "},
		"a foreign file as a base": {func(t *testing.T, w *world) { w.write(t, "cache/bases/"+w.golang, "") },
			"base golang:alpine: what the cache has is not used: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
			tc.breakIt(t, w)
			if log := w.mustRun(t); !strings.Contains(log, tc.want) {
				t.Errorf("got\n%s\nwant %s", log, tc.want)
			}
			if _, err := os.Stat(w.path("prepared/bases", w.golang, "index.json")); err != nil {
				t.Error(err)
			}
			var plan struct {
				Links []struct{ Target string }
			}
			if err := json.Unmarshal([]byte(w.read(t, "prepared/plan.json")), &plan); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(plan.Links[0].Target); err != nil || !info.IsDir() {
				t.Errorf("there is no module cache: %v", err)
			}
		})
	}
}

func TestCredentialsReachTheRegistryAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &authn.Basic{Username: "robot", Password: "secret-word"})
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	code, stderr := w.run(t)
	want := fmt.Sprintf("prepare: Dockerfile:1: base image golang:alpine: registry %s refused to pull library/golang (401, Unauthorized): bind the workspace dockerconfig to a registry secret with the right to pull there\n", w.host)
	if code != step.ExitBadInput || !strings.HasSuffix(stderr, want) {
		t.Errorf("without credentials: exit code %d\n%s\nwant %s", code, stderr, want)
	}

	w.env["WORKSPACE_DOCKERCONFIG_PATH"] = w.path("dockerconfig")
	w.write(t, "dockerconfig/config.json", fmt.Sprintf(`{"auths":{%q:{"username":"robot","password":"secret-word"}}}`, w.host))
	log := w.mustRun(t)
	if strings.Contains(log, "secret-word") {
		t.Error("the log has the password")
	}
	err := filepath.WalkDir(w.root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == w.path("dockerconfig/config.json") || path == w.path("logins/dockerconfig/config.json") || path == w.path("prepared/bin/prepare") {
			return err
		}
		if content, err := os.ReadFile(path); err != nil || bytes.Contains(content, []byte("secret-word")) {
			t.Errorf("%s has the password (%v)", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSIGTERMEndsADownload(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(reached)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	w := newWorld(t, nil)
	w.write(t, "source/Dockerfile", "FROM golang:alpine\n")
	w.args = []string{"--registry-mirrors", strings.TrimPrefix(silent.URL, "http://")}
	cmd, stderr := w.command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	started := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if took := time.Since(started); took > 2*time.Second || cmd.ProcessState.ExitCode() != step.ExitFailed {
		t.Errorf("it took %v, exit code %d\n%s", took, cmd.ProcessState.ExitCode(), stderr)
	}
}
