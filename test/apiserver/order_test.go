package apiserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/test/apiserver"
	"github.com/slipway-ci/slipway/test/histories"
)

var orderCases = map[string]func(*testing.T, *fixture){
	"older-stops":            olderStops,
	"repeated-keeps-place":   repeatedKeepsPlace,
	"killed-is-continued":    killedIsContinued,
	"paused-between-writes":  pausedBetweenWrites,
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
			`give this deploy a name of its own with the param name, or that name if the overlay has moved (nothing was changed)`)
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

func sigtermWhileApplying(t *testing.T, f *fixture) {
	f.overlay(t, configMap("feeds", "a"))
	server := f.env["WORKSPACE_KUBECONFIG_PATH"]
	g := f.gated(t, isWrite)
	d := f.start(t)
	<-g.held
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out := d.wait(t)
	out.wantCode(t, step.ExitFailed)
	out.has(t, "stopped: ", "0 of 1 objects were applied before it; run it again")
	close(g.open)
	f.env["WORKSPACE_KUBECONFIG_PATH"] = server
	f.run(t).wantCode(t, 0)
}

// TestVersions is what the order is built on: the answers of the API server to
// a server-side apply, an update and a delete that name the version and uid of
// what they want to change. The model that the histories run against has to
// give the same.
func TestVersions(t *testing.T) {
	t.Parallel()
	server := apiserver.Start(t)
	for name, backend := range map[string]histories.Backend{"the API server": newBackend(t, server), "the model": histories.NewFake()} {
		if err := backend.MakeNamespace("versions"); err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(through(t, backend), "kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		config.ContentType = "application/json" // all that the model understands
		client := kubernetes.NewForConfigOrDie(config)
		maps := client.CoreV1().ConfigMaps("versions")
		apply := func(manager, value, version, uid string, options ...func(*metav1.PatchOptions)) (*corev1.ConfigMap, string) {
			body, err := json.Marshal(map[string]any{
				"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]string{"x": value},
				"metadata": map[string]string{"name": "feeds", "resourceVersion": version, "uid": uid},
			})
			if err != nil {
				t.Fatal(err)
			}
			patch := metav1.PatchOptions{FieldManager: manager}
			for _, option := range options {
				option(&patch)
			}
			got, err := maps.Patch(t.Context(), "feeds", types.ApplyPatchType, body, patch)
			return got, answerOf(err)
		}
		dry := func(o *metav1.PatchOptions) { o.DryRun = []string{metav1.DryRunAll} }
		force := func(o *metav1.PatchOptions) { yes := true; o.Force = &yes }
		var answers []string
		note := func(what, answer string) { answers = append(answers, what+": "+answer) }

		_, a := apply("m", "1", "7", "uid")
		note("update of what is not there", a)
		_, a = apply("m", "1", "1", "", dry)
		note("dry run of a create", a)
		first, a := apply("m", "1", "1", "")
		note("create", a)
		_, a = apply("m", "2", "1", "")
		note("create of what is there", a)
		same, a := apply("m", "1", first.ResourceVersion, string(first.UID))
		note("apply of the same", a)
		if same.ResourceVersion != first.ResourceVersion {
			t.Errorf("%s: an apply that changes nothing changes the version", name)
		}
		_, a = apply("n", "2", "", "")
		note("apply of another's field", a)
		trial, a := apply("m", "2", first.ResourceVersion, string(first.UID), dry)
		note("dry run of a change", a)
		if trial.Data["x"] != "2" {
			t.Errorf("%s: a dry run answers %v", name, trial.Data)
		}
		second, a := apply("m", "2", first.ResourceVersion, string(first.UID))
		note("change", a)
		_, a = apply("m", "3", first.ResourceVersion, string(first.UID))
		note("change of an old version", a)
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": first.ResourceVersion, "annotations": map[string]string{"t": "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = maps.Patch(t.Context(), "feeds", types.MergePatchType, body, metav1.PatchOptions{FieldManager: "t"})
		note("touch of an old version", answerOf(err))
		note("delete of an old version", answerOf(maps.Delete(t.Context(), "feeds", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &first.ResourceVersion}})))
		touched, err := maps.Patch(t.Context(), "feeds", types.MergePatchType,
			[]byte(strings.Replace(string(body), first.ResourceVersion, second.ResourceVersion, 1)), metav1.PatchOptions{FieldManager: "t"})
		note("touch", answerOf(err))
		_, a = apply("m", "3", second.ResourceVersion, string(second.UID))
		note("change after a touch", a)
		_, a = apply("n", "4", touched.ResourceVersion, string(touched.UID), force)
		note("forced", a)
		_, a = apply("m", "5", "", "")
		note("apply of what was forced away", a)
		note("delete", answerOf(maps.Delete(t.Context(), "feeds", metav1.DeleteOptions{})))
		_, a = apply("m", "3", second.ResourceVersion, string(second.UID))
		note("change of what was deleted", a)

		want := []string{
			"update of what is not there: conflict", "dry run of a create: ok", "create: ok", "create of what is there: conflict",
			"apply of the same: ok", "apply of another's field: conflict of managers", "dry run of a change: ok", "change: ok", "change of an old version: conflict",
			"touch of an old version: conflict", "delete of an old version: conflict", "touch: ok", "change after a touch: conflict",
			"forced: ok", "apply of what was forced away: conflict of managers", "delete: ok", "change of what was deleted: conflict",
		}
		if !slices.Equal(answers, want) {
			t.Errorf("%s answers\n%s\nwant\n%s", name, strings.Join(answers, "\n"), strings.Join(want, "\n"))
		}
	}
}

func answerOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsConflict(err) && apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict):
		return "conflict of managers"
	case apierrors.IsConflict(err):
		return "conflict"
	default:
		return err.Error()
	}
}

// TestHistories runs some of the random histories against a real API server;
// test/histories runs thousands against the model of one.
func TestHistories(t *testing.T) {
	t.Parallel()
	backend := newBackend(t, apiserver.Start(t))
	var (
		total histories.Stats
		seeds atomic.Uint64
		mu    sync.Mutex
	)
	const workers, each = 2, 60
	t.Run("all", func(t *testing.T) {
		for range workers {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for range each {
					stats := histories.Run(t, backend, 1_000_000+seeds.Add(1))
					mu.Lock()
					total.Add(stats)
					mu.Unlock()
				}
			})
		}
	})
	t.Log(total)
}

// backend is a real API server for histories.
type backend struct {
	http.Handler
	t     testing.TB
	admin *kubernetes.Clientset
}

func newBackend(t testing.TB, server *apiserver.Server) *backend {
	return &backend{newProxy(t, server), t, kubernetes.NewForConfigOrDie(server.Config())}
}

func (b *backend) MakeNamespace(name string) error {
	_, err := b.admin.CoreV1().Namespaces().Create(b.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

func (b *backend) ConfigMaps(namespace string) (map[string]corev1.ConfigMap, error) {
	list, err := b.admin.CoreV1().ConfigMaps(namespace).List(b.t.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	found := map[string]corev1.ConfigMap{}
	for _, item := range list.Items {
		found[item.Name] = item
	}
	return found, nil
}
