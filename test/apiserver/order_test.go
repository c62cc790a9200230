package apiserver_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/test/apiserver"
)

var orderCases = map[string]func(*testing.T, *fixture){
	"older-stops":            olderStops,
	"repeated-keeps-place":   repeatedKeepsPlace,
	"killed-is-continued":    killedIsContinued,
	"paused-between-writes":  pausedBetweenWrites,
	"hook-paused-at-create":  hookPausedAtCreate,
	"hook-paused-at-start":   hookPausedAtStart,
	"hook-fenced":            hookFenced,
	"override-by-name":       overrideByName,
	"foreign-inventory":      foreignInventory,
	"another-overlay":        anotherOverlay,
	"without-time":           withoutTime,
	"sigterm-while-applying": sigtermWhileApplying,
}

func (f *fixture) place(seconds, event string) {
	f.env["PARAM_EVENT_TIME"], f.env["PARAM_EVENT_ID"] = seconds, event
	f.env["PARAM_RUN"], f.env["PARAM_REVISION"] = "run-"+event, "commit-"+event
}

func (f *fixture) feeds(t *testing.T, want string) {
	t.Helper()
	live, err := f.admin.CoreV1().ConfigMaps(f.namespace).Get(t.Context(), "feeds", metav1.GetOptions{})
	if err != nil || live.Data["feeds"] != want {
		t.Errorf("feeds: %q, %v; want %q", live.Data["feeds"], err, want)
	}
}

func olderStops(t *testing.T, f *fixture) {
	f.place("200", "b")
	f.overlay(t, configMap("feeds", "b"))
	f.run(t).wantCode(t, 0)
	f.place("100", "a")
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).want(t, step.ExitFailed,
		`deploy: overtaken: a newer run is deployed: event b of 1970-01-01T00:03:20Z, run run-b, revision commit-b; `+
			`this one is event a of 1970-01-01T00:01:40Z. To go back on purpose, roll back and name what that overrides (nothing was changed)`)
	f.feeds(t, "b")
}

func repeatedKeepsPlace(t *testing.T, f *fixture) {
	f.place("1970-01-01T00:01:40Z", "a")
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.run(t).wantCode(t, 0)
	f.place("200", "b")
	f.overlay(t, configMap("feeds", "b"))
	f.run(t).wantCode(t, 0)
	f.place("100", "a")
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, step.ExitFailed)
	f.feeds(t, "b")
}

// gate stands between a deploy and the API server and stops its requests.
type gate struct {
	proxy http.Handler
	hold  func(*http.Request) bool
	held  chan struct{} // closed when the first is held
	open  chan struct{}
	once  sync.Once
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.hold(r) {
		g.once.Do(func() { close(g.held) })
		<-g.open
	}
	g.proxy.ServeHTTP(w, r)
}

// through is the folder of a kubeconfig that leads to handler.
func through(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	content := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + server.URL + "'}}]\n" +
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(filepath.Join(dir, "kubeconfig"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newProxy(t testing.TB, server *apiserver.Server) http.Handler {
	t.Helper()
	to, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: transport,
	}
}

// gated has the deploy go through a gate that holds the requests that hold
// picks.
func (f *fixture) gated(t *testing.T, hold func(*http.Request) bool) *gate {
	t.Helper()
	g := &gate{proxy: newProxy(t, f.server), hold: hold, held: make(chan struct{}), open: make(chan struct{})}
	f.env["WORKSPACE_KUBECONFIG_PATH"] = through(t, g)
	return g
}

func isWrite(r *http.Request) bool {
	return r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" && strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/")
}

func killedIsContinued(t *testing.T, f *fixture) {
	f.place("100", "a")
	f.overlay(t, configMap("feeds", "a"), service)
	server := f.env["WORKSPACE_KUBECONFIG_PATH"]
	g := f.gated(t, func(r *http.Request) bool { return isWrite(r) && strings.HasSuffix(r.URL.Path, "/services/feed-agg") })
	d := f.start(t)
	<-g.held
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.wait(t).wantCode(t, -1)
	f.feeds(t, "a")
	f.env["WORKSPACE_KUBECONFIG_PATH"] = server
	f.run(t).want(t, 0, "all 2 objects are ready after <time>")
	close(g.open)
}

// pausedBetweenWrites: a run stands still while it writes, with all it has read
// and decided, until a newer one is done. What it still wants to write does not
// land, neither on what the newer one changed nor on what it left as it was, and
// what it creates is gone in the end.
func pausedBetweenWrites(t *testing.T, f *fixture) {
	server := f.env["WORKSPACE_KUBECONFIG_PATH"]
	f.place("100", "a")
	f.overlay(t, configMap("feeds", "first"), configMap("other", "first"))
	f.run(t).wantCode(t, 0)

	f.place("200", "b")
	f.overlay(t, configMap("feeds", "paused"), configMap("other", "paused"), configMap("new", "paused"))
	g := f.gated(t, isWrite)
	paused := f.start(t)
	<-g.held

	f.env["WORKSPACE_KUBECONFIG_PATH"] = server
	f.place("300", "c")
	f.overlay(t, configMap("feeds", "first"), configMap("other", "newest")) // the first is what there is already
	f.run(t).wantCode(t, 0)

	close(g.open)
	out := paused.wait(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "overtaken: a newer run took over: event c of 1970-01-01T00:05:00Z, run run-c, revision commit-c")
	f.feeds(t, "first")
	maps, err := f.admin.CoreV1().ConfigMaps(f.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "slipway-ci.github.io/deploy=" + f.namespace})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps.Items {
		if m.Name == "new" || m.Name == "other" && m.Data["feeds"] != "newest" {
			t.Errorf("after all, %s has %v\n%s", m.Name, m.Data, out.stderr)
		}
	}
}

// isHookWrite reports whether a request creates a Job, or starts one.
func isHookWrite(r *http.Request, how types.PatchType) bool {
	return r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" && strings.Contains(r.URL.Path, "/jobs/") && r.Header.Get("Content-Type") == string(how)
}

// overtakenInHook has a run stand still at a request for its hook after, until a
// newer one is done that has no hook, and returns the Jobs there are in the end.
func (f *fixture) overtakenInHook(t *testing.T, at types.PatchType) []batchv1.Job {
	t.Helper()
	server := f.env["WORKSPACE_KUBECONFIG_PATH"]
	f.place("100", "a")
	f.overlay(t, configMap("feeds", "a"), hook("warm", "after"))
	g := f.gated(t, func(r *http.Request) bool { return isHookWrite(r, at) })
	paused := f.start(t)
	<-g.held

	f.env["WORKSPACE_KUBECONFIG_PATH"] = server
	f.place("200", "b")
	f.overlay(t, configMap("feeds", "b"))
	f.run(t).wantCode(t, 0)

	close(g.open)
	out := paused.wait(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "overtaken: a newer run took over: event b of 1970-01-01T00:03:20Z")
	f.feeds(t, "b")
	list, err := f.admin.BatchV1().Jobs(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// hookPausedAtCreate: what an overtaken run creates of a hook never runs, and is
// taken back.
func hookPausedAtCreate(t *testing.T, f *fixture) {
	if jobs := f.overtakenInHook(t, types.ApplyPatchType); len(jobs) > 0 {
		t.Errorf("a hook of the overtaken run is there: %v", jobs)
	}
}

func hookPausedAtStart(t *testing.T, f *fixture) {
	if jobs := f.overtakenInHook(t, types.MergePatchType); len(jobs) > 0 {
		t.Errorf("a hook of the overtaken run is there: %v", jobs)
	}
}

// hookFenced: a newer run that prunes nothing keeps a hook from being started
// as well.
func hookFenced(t *testing.T, f *fixture) {
	f.env["PARAM_PRUNE"] = "false"
	var started atomic.Bool
	proxy := newProxy(t, f.server)
	f.env["WORKSPACE_KUBECONFIG_PATH"] = through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isHookWrite(r, types.MergePatchType) {
			started.Store(true)
		}
		proxy.ServeHTTP(w, r)
	}))
	if jobs := f.overtakenInHook(t, types.MergePatchType); len(jobs) > 0 {
		t.Errorf("a hook of the overtaken run is there: %v", jobs)
	}
	if !started.Load() {
		t.Error("the newer run has not changed the version of the hook")
	}
}

func overrideByName(t *testing.T, f *fixture) {
	f.place("200", "b")
	f.overlay(t, configMap("feeds", "b"))
	f.run(t).wantCode(t, 0)
	f.place("100", "a")
	f.overlay(t, configMap("feeds", "a"))
	f.env["PARAM_OVERRIDES"] = "c"
	out := f.run(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "overtaken: this overrides c, but event b of 1970-01-01T00:03:20Z, run run-b, revision commit-b is deployed meanwhile")
	f.env["PARAM_OVERRIDES"] = "b"
	f.run(t).wantCode(t, 0)
	f.feeds(t, "a")
	// What was overridden cannot come back by being repeated.
	delete(f.env, "PARAM_OVERRIDES")
	f.place("200", "b")
	f.run(t).wantCode(t, step.ExitFailed)
}

func foreignInventory(t *testing.T, f *fixture) {
	_, err := f.admin.CoreV1().ConfigMaps(f.namespace).Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "slipway-deploy-" + f.namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.overlay(t, configMap("feeds", "a"))
	out := f.run(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "it is not the inventory of the deploy foreign-inventory", "give this deploy another name", "nothing was changed")
}

// anotherOverlay: a name that nobody gave is not taken for permission to prune
// what another overlay of the same image applied.
func anotherOverlay(t *testing.T, f *fixture) {
	delete(f.env, "PARAM_NAME")
	f.env["PARAM_TIMEOUT"] = "2s"
	f.overlay(t, deployment)
	f.run(t, "feed-agg=r.test/feed-agg@"+digest).wantCode(t, step.ExitNotReady)
	if err := os.CopyFS(filepath.Join(f.source, "second"), os.DirFS(filepath.Join(f.source, "overlay"))); err != nil {
		t.Fatal(err)
	}
	f.env["PARAM_OVERLAY"] = "second"
	f.run(t, "feed-agg=r.test/feed-agg@"+digest).want(t, step.ExitBadInput,
		`deploy: deploy feed-agg in namespace another-overlay is of the overlay overlay: what second does not have of it would be pruned; `+
			`give this deploy a name of its own with the param name (deploy-name of the pipelines), or that name if the overlay has moved (nothing was changed)`)
}

// withoutTime: whoever gives no time deploys now, also after an event whose
// clock was ahead.
func withoutTime(t *testing.T, f *fixture) {
	f.place("2100-01-01T00:00:00Z", "future")
	f.overlay(t, configMap("feeds", "a"))
	f.run(t).wantCode(t, 0)
	f.place("", "by-hand")
	f.overlay(t, configMap("feeds", "b"))
	f.run(t).wantCode(t, 0)
	f.run(t).wantCode(t, 0)
	f.feeds(t, "b")
	f.place("2100-01-01T00:00:00Z", "future")
	f.run(t).wantCode(t, step.ExitFailed)
}

// sigtermWhileApplying: a deploy that is told to stop between two writes stops
// there, and the next goes on.
func sigtermWhileApplying(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"), service)
	server := f.env["WORKSPACE_KUBECONFIG_PATH"]
	g := f.gated(t, func(r *http.Request) bool { return isWrite(r) && strings.Contains(r.URL.Path, "/services/") })
	d := f.start(t)
	<-g.held
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out := d.wait(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "configmap/feeds created", "stopped: ", "1 of 2 objects were applied before it; run it again")
	close(g.open)
	f.env["WORKSPACE_KUBECONFIG_PATH"] = server
	out = f.run(t)
	out.wantCode(t, 0)
	out.has(t, "configmap/feeds unchanged", "service/feed-agg created")
}
