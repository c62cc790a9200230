package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	stdlog "log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/internal/step/steptest"
)

// The test binary is also the program under test.
func TestMain(m *testing.M) {
	if os.Getenv("BE_PUSH") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// serve starts a registry on loopback behind a handler of the test's own.
func serve(t *testing.T, before func(http.ResponseWriter, *http.Request) (done bool)) (host string) {
	t.Helper()
	handler := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before == nil || !before(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// built is what the steps before have left.
type built struct {
	root   string
	digest v1.Hash
	env    map[string]string
	args   []string
}

func newBuilt(t *testing.T, image string) *built {
	t.Helper()
	b := &built{root: t.TempDir(), args: []string{"--insecure-registries", "--skip-tls-verify-registries", "--destinations", "--immutable-tags", "--registry-certificates", "--registry-client-certs"}}
	for _, dir := range []string{"prepared", "results", "go", "logins"} {
		if err := os.Mkdir(b.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	img, err := random.Image(5000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if b.digest, err = img.Digest(); err != nil {
		t.Fatal(err)
	}
	entry, err := layout.Write(b.path("layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := entry.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	p := plan.Plan{Started: time.Now(), Layout: b.path("layout"), Compiled: b.path("go/compiled.json"), Downloaded: b.path("go/downloaded.json")}
	if err := p.Write(b.path("prepared")); err != nil {
		t.Fatal(err)
	}
	b.env = map[string]string{
		"PREPARED_PATH":            b.path("prepared"),
		"LOGINS_PATH":              b.path("logins"),
		"TASK_RUN":                 "team/feed-agg-build",
		"PARAM_IMAGE":              image,
		"PARAM_PUSH":               "true",
		"PARAM_PUSH_RETRY":         "1",
		"PARAM_ARTIFACT":           "",
		"RESULT_DEPLOY_IMAGE_PATH": b.path("results/deploy-image"),
		"RESULT_IMAGE_URL_PATH":    b.path("results/IMAGE_URL"),
		"RESULT_IMAGE_URLS_PATH":   b.path("results/image-urls"),
		"RESULT_IMAGE_DIGEST_PATH": b.path("results/IMAGE_DIGEST"),
		"RESULT_BUILD_REPORT_PATH": b.path("results/build-report"),
		"HOME":                     b.path("home"),
		"BE_PUSH":                  "1",
	}
	return b
}

func (b *built) path(name string) string { return filepath.Join(b.root, name) }

func (b *built) write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(b.path(file), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *built) command(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	return steptest.Command(t, b.args, b.env)
}

func (b *built) run(t *testing.T) (code int, stderr string) {
	t.Helper()
	return steptest.Run(t, b.args, b.env)
}

// results are those that say something, by name.
func (b *built) results(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(b.path("results"))
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]string{}
	for _, entry := range entries {
		content, err := os.ReadFile(b.path("results/" + entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if text := string(content); text != "" && text != "[]" {
			results[entry.Name()] = text
		}
	}
	return results
}

func (b *built) mustFail(t *testing.T, code int, want string) {
	t.Helper()
	got, stderr := b.run(t)
	if got != code || !strings.HasSuffix(stderr, "push: "+want+"\n") {
		t.Errorf("exit code %d, want %d\n%s\nwant %s", got, code, stderr, want)
	}
	if results := b.results(t); len(results) > 0 {
		t.Errorf("there are results: %q", results)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct{ param, url, count, counts, log string }{
		"a tag": {
			"/team/feed-agg:v1", "/team/feed-agg:v1",
			`{"compiled":1,"cached":2}`,
			`"compiled":1,"cached":2,"modules":null`, "build: 1 of 3 packages compiled, 2 from the cache; ",
		},
		"no tag":                  {"/feed-agg", "/feed-agg:latest", "", `"compiled":null,"cached":null,"modules":null`, "how many packages were compiled is not known: no go command left an account\n"},
		"an account that is none": {"/feed-agg", "/feed-agg:latest", `["compiled"]`, `"compiled":null,"cached":null,"modules":null`, "is not known: the account cannot be read\n"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			host := serve(t, nil)
			b := newBuilt(t, host+tc.param)
			if tc.count != "" {
				b.write(t, "go/compiled.json", tc.count)
			}
			code, stderr := b.run(t)
			if code != 0 || !strings.HasPrefix(stderr, fmt.Sprintf("push %s%s@%s\n", host, tc.url, b.digest)) || !strings.Contains(stderr, tc.log) {
				t.Fatalf("exit code %d\n%s", code, stderr)
			}
			results := b.results(t)
			if len(results) != 5 || results["image-urls"] != `["`+host+tc.url+`"]` || results["IMAGE_URL"] != host+tc.url || results["IMAGE_DIGEST"] != b.digest.String() || results["deploy-image"] != "="+host+tc.url+"@"+b.digest.String() {
				t.Errorf("results %q", results)
			}
			var report struct{ Seconds *float64 }
			if err := json.Unmarshal([]byte(results["build-report"]), &report); err != nil || report.Seconds == nil || !strings.HasSuffix(results["build-report"], ","+tc.counts+"}") {
				t.Errorf("build-report %s, %v", results["build-report"], err)
			}
			tag, err := name.NewTag(host + tc.url)
			if err != nil {
				t.Fatal(err)
			}
			if pushed, err := remote.Head(tag); err != nil || pushed.Digest != b.digest {
				t.Errorf("the registry has %v, %v", pushed, err)
			}
		})
	}
}

// TestTimes: what a build's seconds went to, as the build step has left it and
// this step knows of itself and the waits between.
func TestTimes(t *testing.T) {
	t.Parallel()
	b := newBuilt(t, serve(t, nil)+"/feed-agg")
	started := time.Now().Add(-20 * time.Second)
	left := plan.Times{
		Began: started.Add(1200 * time.Millisecond), Ended: started.Add(11 * time.Second),
		Base: 500 * time.Millisecond, Copy: 40 * time.Millisecond, Snapshot: 800 * time.Millisecond, Image: 300 * time.Millisecond,
		Runs: []plan.RunTime{{Line: 3, Took: 3 * time.Second}, {Line: 5, Took: 200 * time.Millisecond}, {Took: 700 * time.Millisecond}, {Line: 9, Took: 600 * time.Millisecond}, {Line: 11, Took: 200 * time.Millisecond}, {Line: 12, Took: time.Second}},
	}
	content, err := json.Marshal(left)
	must(t, err)
	b.replan(t, func(p *plan.Plan) { p.Started, p.Times = started, b.path("go/times.json") })
	must(t, os.Chtimes(b.path("prepared/plan.json"), time.Time{}, started.Add(time.Second)))

	b.write(t, "go/times.json", string(content))
	stderr := b.mustRun(t)
	told := "time: prepare 1.0 s, base images 0.5 s, RUN (line 3) 3.0 s, RUN 0.7 s, RUN (line 9) 0.6 s, RUN (line 12) 1.0 s, other RUNs 0.4 s, " +
		"snapshots 0.8 s, image 0.3 s, the rest of the build step 2.5 s, "
	if !strings.Contains(stderr, told) || !strings.Contains(stderr, "between steps ") {
		t.Errorf("%s\nwant %s", stderr, told)
	}
	var report struct {
		Seconds float64
		Times   map[string]float64
	}
	must(t, json.Unmarshal([]byte(b.results(t)["build-report"]), &report))
	var sum float64
	for _, part := range report.Times {
		sum += part
	}
	if report.Times["run"] != 5.7 || report.Times["copy"] != 0 || report.Times["waits"] < 8 || math.Abs(sum-report.Seconds) > 0.5 {
		t.Errorf("%+v is %.1f in all", report, sum)
	}

	for wrong, why := range map[string]string{
		``:                     "left cannot be read",
		`{"copy":-1}`:          "left cannot be true",
		`{"copy":90000000000}`: "left cannot be true",
		`{"runs":[{"took":9223372036854775807},{"took":9223372036854775807}]}`: "left cannot be true",
		`{}`: "times are not in order",
		`{"began":"2000-01-01T00:00:00Z","ended":"2000-01-01T00:00:01Z"}`: "times are not in order",
	} {
		b.write(t, "go/times.json", wrong)
		if stderr := b.mustRun(t); !strings.Contains(stderr, "time: what it went to is not known: ") || !strings.Contains(stderr, why) {
			t.Errorf("%s: %s", wrong, stderr)
		}
	}
	must(t, os.Remove(b.path("go/times.json")))
	if stderr := b.mustRun(t); !strings.Contains(stderr, "time: what it went to is not known: the build step left nothing about it\n") {
		t.Error(stderr)
	}
}

// Why there is no toolchain is as long as an error may be, and fits all the same.
func TestALongReasonInTheReport(t *testing.T) {
	t.Parallel()
	b := newBuilt(t, serve(t, nil)+"/feed-agg")
	reason := "x" + strings.Repeat("ü", 4000)
	b.replan(t, func(p *plan.Plan) { p.NoToolchain = reason })
	b.mustRun(t)
	var report struct{ NoToolchain string }
	if err := json.Unmarshal([]byte(b.results(t)["build-report"]), &report); err != nil {
		t.Fatal(err)
	}
	kept, short := strings.CutSuffix(report.NoToolchain, "…")
	if !short || len(report.NoToolchain) < 200 || len(report.NoToolchain) > 300 || !strings.HasPrefix(reason, kept) {
		t.Errorf("%d bytes: %s", len(report.NoToolchain), report.NoToolchain)
	}
}

// What the build step leaves of modules, and prepare of caches, is told too.
func TestModulesAndUnusedCachesInTheReport(t *testing.T) {
	t.Parallel()
	for left, want := range map[string]struct{ report, log string }{
		"0":        {`"modules":0`, "build: 1 of 3 packages compiled, 2 from the cache; 0 modules downloaded; "},
		"37":       {`"modules":37`, "; 37 modules downloaded; "},
		"-1":       {`"modules":null`, "from the cache; "},
		"many\n37": {`"modules":null`, "from the cache; "},
	} {
		b := newBuilt(t, serve(t, nil)+"/feed-agg")
		b.write(t, "go/compiled.json", `{"compiled":1,"cached":2}`)
		b.write(t, "go/downloaded.json", left)
		b.replan(t, func(p *plan.Plan) { p.Unused = []string{"go-mod: read-only & full", "no workspace cache is bound"} })
		stderr := b.mustRun(t)
		if report := b.results(t)["build-report"]; !strings.Contains(report, want.report+`,"unused":["go-mod: read-only & full","no workspace cache is bound"]}`) || !strings.Contains(stderr, want.log) {
			t.Errorf("%q: %s\n%s", left, report, stderr)
		}
	}
	// Whatever there is to say, it fits.
	b := newBuilt(t, serve(t, nil)+"/feed-agg")
	reasons := []string{strings.Repeat(`"\`, 400), strings.Repeat("ü", 400), strings.Repeat("x", 400)}
	b.replan(t, func(p *plan.Plan) { p.NoToolchain, p.Unused = reasons[0], reasons })
	b.mustRun(t)
	var report struct {
		NoToolchain string
		Unused      []string
	}
	text := b.results(t)["build-report"]
	if err := json.Unmarshal([]byte(text), &report); err != nil || len(text) > step.MaxReport || len(report.NoToolchain) < 30 || len(report.Unused) != 3 || len(report.Unused[2]) < 20 {
		t.Errorf("%d bytes: %s, %v", len(text), text, err)
	}
}

// Where a result cannot be this step's, it is somebody else's.
func TestAResultThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	b := newBuilt(t, serve(t, func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })+"/feed-agg")
	b.env["RESULT_BUILD_REPORT_PATH"] = b.path("no-such-folder/build-report")
	if code, stderr := b.run(t); code != 1 || !strings.HasPrefix(stderr, "push: write result build-report: ") || asked.Load() > 0 {
		t.Errorf("exit code %d, the registry was asked %d times\n%s", code, asked.Load(), stderr)
	}
}

// What RUN instructions have put where the results are is no result.
func TestResultsAreThisStepsAlone(t *testing.T) {
	t.Parallel()
	for push, want := range map[string]int{"true": 5, "false": 1} {
		t.Run("push "+push, func(t *testing.T) {
			t.Parallel()
			b := newBuilt(t, serve(t, nil)+"/feed-agg")
			b.env["PARAM_PUSH"], b.env["WORKSPACE_OUTPUT_PATH"], b.env["PARAM_TAR_PATH"] = push, b.root, "image.tar"
			b.write(t, "go/login", "a login")
			for _, result := range []string{"IMAGE_URL", "image-urls", "IMAGE_DIGEST", "deploy-image", "build-report"} {
				must(t, os.Symlink(b.path("go/login"), b.path("results/"+result)))
			}
			b.mustRun(t)
			results := b.results(t)
			if len(results) != want || results["build-report"] == "" {
				t.Errorf("results %q", results)
			}
			for name, value := range results {
				if value == "a login" {
					t.Errorf("%s is what was there", name)
				}
			}
			if content, err := os.ReadFile(b.path("go/login")); err != nil || string(content) != "a login" {
				t.Errorf("results were written through a link: %s, %v", content, err)
			}
		})
	}
}

// However this step ends, Tekton's entrypoint finds no login afterwards.
func TestNoLoginIsLeft(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *built){
		"pushed":             func(*built) {},
		"no image":           func(b *built) { must(t, os.RemoveAll(b.path("layout"))) },
		"no plan":            func(b *built) { must(t, os.RemoveAll(b.path("prepared"))) },
		"a bad param":        func(b *built) { b.env["PARAM_PUSH_RETRY"] = "100" },
		"a param is missing": func(b *built) { delete(b.env, "PARAM_PUSH") },
		"a bad argument":     func(b *built) { b.args = append([]string{"word"}, b.args...) },
		"no results":         func(b *built) { must(t, os.RemoveAll(b.path("results"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := serve(t, nil)
			b := newBuilt(t, host+"/feed-agg")
			for _, dir := range []string{"dockerconfig", "certificates"} {
				must(t, os.Mkdir(b.path("logins/"+dir), 0o777))
			}
			b.write(t, "logins/dockerconfig/config.json", `{"auths":{"`+host+`":{"auth":"cm9ib3Q6c2VjcmV0"}}}`)
			b.write(t, "logins/certificates/key", "a key")
			change(b)
			if code, stderr := b.run(t); (code == 0) != (name == "pushed") {
				t.Errorf("exit code %d\n%s", code, stderr)
			}
			if left, err := filepath.Glob(b.path("logins/*/*")); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

func TestRefusedPush(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		status  int
		said    string
		answers string
	}{
		"no credentials": {http.StatusUnauthorized, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, "401, UNAUTHORIZED: authentication required"},
		"no right":       {http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"requested access to the resource\nis denied"}]}`, "403, DENIED: requested access to the resource is denied"},
		"no word":        {http.StatusForbidden, ``, "403, Forbidden"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			host := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet || r.Method == http.MethodHead {
					return false
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.said)
				return true
			})
			newBuilt(t, host+"/team/app:1").mustFail(t, step.ExitBadInput, fmt.Sprintf(
				"push %s/team/app:1: registry %s refused to push team/app (%s): bind the workspace dockerconfig to a registry secret with the right to push there", host, host, tc.answers))
		})
	}
}

func TestAPushThatFailsAtTheEndHasNoResult(t *testing.T) {
	t.Parallel()
	host := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.WriteHeader(http.StatusInsufficientStorage)
		return true
	})
	newBuilt(t, host+"/app").mustFail(t, step.ExitFailed, fmt.Sprintf("push %s/app:latest: registry %s: 507, Insufficient Storage", host, host))
}

func TestAPassingFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	var failed atomic.Bool
	host := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && failed.CompareAndSwap(false, true) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	b := newBuilt(t, host+"/app")
	if code, stderr := b.run(t); code != 0 || !failed.Load() || len(b.results(t)) != 5 {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"registry.example/app@sha256:" + strings.Repeat("0", 64): "param image: registry.example/app@sha256:" + strings.Repeat("0", 64) + " has a digest, which only the build decides; give a repository with or without a tag",
		"registry.example/App": "param image: repository can only contain the characters `abcdefghijklmnopqrstuvwxyz0123456789_-./`: App",
	} {
		newBuilt(t, image).mustFail(t, step.ExitBadInput, want)
	}
	b := newBuilt(t, "registry.example/app")
	must(t, os.Mkdir(b.path("logins/dockerconfig"), 0o777))
	b.write(t, "logins/dockerconfig/password", "secret")
	b.mustFail(t, step.ExitBadInput, "workspace dockerconfig has none of config.json, .dockerconfigjson and a Google service account's key: file does not exist")
}

// Whatever a RUN instruction left where kaniko's image should be, this step's
// files stay here.
func TestALayoutIsNotBelieved(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		forge func(t *testing.T, b *built)
		want  string
	}{
		"none": {
			func(t *testing.T, b *built) { must(t, os.RemoveAll(b.path("layout"))) },
			"no such file or directory",
		},
		"a link as a blob": {
			func(t *testing.T, b *built) {
				blobs, err := filepath.Glob(b.path("layout/blobs/sha256/*"))
				must(t, err)
				must(t, os.Remove(blobs[0]))
				must(t, os.Symlink(b.path("secret"), blobs[0]))
			},
			"is neither a file nor a folder",
		},
		"a link as the folder": {
			func(t *testing.T, b *built) {
				must(t, os.Rename(b.path("layout"), b.path("other")))
				must(t, os.Symlink(b.path("other"), b.path("layout")))
			},
			"is neither a file nor a folder",
		},
		"two images": {
			func(t *testing.T, b *built) {
				img, err := random.Image(10, 1)
				must(t, err)
				must(t, layout.Path(b.path("layout")).AppendImage(img))
			},
			"index.json names 2 images, not one",
		},
		"an index": {
			func(t *testing.T, b *built) {
				must(t, os.RemoveAll(b.path("layout")))
				entry, err := layout.Write(b.path("layout"), empty.Index)
				must(t, err)
				index, err := random.Index(10, 1, 1)
				must(t, err)
				must(t, entry.AppendIndex(index))
			},
			`index.json names a "application/vnd.oci.image.index.v1+json", not an image`,
		},
		"another manifest under the name": {
			func(t *testing.T, b *built) { b.write(t, "layout/blobs/sha256/"+b.digest.Hex, `{"schemaVersion":2}`) },
			"has another content",
		},
		"a name that is a path": {
			func(t *testing.T, b *built) {
				b.write(t, "layout/index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:../../../secret"}]}`)
			},
			"index.json: ",
		},
		"an endless index": {
			func(t *testing.T, b *built) { must(t, os.Truncate(b.path("layout/index.json"), 1<<40)) },
			"over the limit of 4194304",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			host := serve(t, func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
			b := newBuilt(t, host+"/app")
			b.write(t, "secret", "secret-word")
			tc.forge(t, b)
			code, stderr := b.run(t)
			if code != step.ExitFailed || !strings.HasPrefix(stderr, "push: read the image that kaniko built: ") || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit code %d\n%s\nwant %s", code, stderr, tc.want)
			}
			if asked.Load() > 0 || len(b.results(t)) > 0 {
				t.Errorf("the registry was asked %d times; results %q", asked.Load(), b.results(t))
			}
		})
	}
}

func TestSIGTERMEndsAPush(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 100)
	host := serve(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		reached <- struct{}{}
		<-r.Context().Done()
		return true
	})
	b := newBuilt(t, host+"/app")
	cmd, stderr := b.command(t)
	must(t, cmd.Start())
	<-reached
	started := time.Now()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	if took := time.Since(started); took > 2*time.Second || cmd.ProcessState.ExitCode() != step.ExitFailed {
		t.Errorf("it took %v, exit code %d", took, cmd.ProcessState.ExitCode())
	}
	if want := fmt.Sprintf("push: push %s/app:latest: terminated signal received\n", host); !strings.HasSuffix(stderr.String(), want) || len(b.results(t)) > 0 {
		t.Errorf("got\n%swant %sresults %q", stderr, want, b.results(t))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
