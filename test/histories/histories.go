// Package histories runs deploys against each other: started out of order,
// repeated, paused for as long as it takes and killed, between any two of their
// requests. After each request it holds the cluster against what the order
// promises.
package histories

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sethvargo/go-envconfig"
	corev1 "k8s.io/api/core/v1"

	"github.com/slipway-ci/slipway/internal/deploy"
)

// Backend is what the deploys write to: an API server, or the model of one.
type Backend interface {
	http.Handler
	MakeNamespace(name string) error
	ConfigMaps(namespace string) (map[string]corev1.ConfigMap, error)
}

// Stats says what a history had in it.
type Stats struct {
	Histories, Runs, Deployed, Overtaken, Killed, Takeovers, Requests int
}

// Add adds up.
func (s *Stats) Add(o Stats) {
	s.Histories += o.Histories
	s.Runs += o.Runs
	s.Deployed += o.Deployed
	s.Overtaken += o.Overtaken
	s.Killed += o.Killed
	s.Takeovers += o.Takeovers
	s.Requests += o.Requests
}

func (s Stats) String() string {
	return fmt.Sprintf("%d histories of %d runs and %d requests: %d runs deployed, %d overtaken, %d killed; %d took over from one that was paused or killed while it wrote",
		s.Histories, s.Runs, s.Requests, s.Deployed, s.Overtaken, s.Killed, s.Takeovers)
}

// run is one run of the deploy.
type run struct {
	name      string
	time      int // its event's
	event     string
	overrides string
	wants     map[string]string // ConfigMaps by name, and what they have
	killAt    int               // after that many requests; 0 for never

	requests int
	cancel   context.CancelFunc
	killed   bool
	ended    bool
	err      error
	log      strings.Builder
}

// history is one of them being run.
type history struct {
	t         testing.TB
	backend   Backend
	namespace string
	rand      *rand.Rand
	server    *httptest.Server

	mu      sync.Mutex
	waiting map[*run][]*request
	runs    []*run
	changed chan struct{} // a request arrived, or a run ended

	trace    []string
	holder   inventory
	stats    Stats
	failures []string
}

// request is one that waits to be let through.
type request struct {
	line    string
	proceed chan bool // let through, or dropped
	done    chan struct{}
}

// inventory is what the histories need of the deploy's.
type inventory struct {
	Place struct {
		Time  time.Time `json:"time"`
		Event string    `json:"event"`
	} `json:"place"`
	Run       string   `json:"run"`
	Holder    string   `json:"holder"`
	Writing   bool     `json:"writing"`
	Leftovers []string `json:"leftovers"`
	Lingering []struct {
		Object string `json:"object"`
	} `json:"lingering"`
}

const deployName = "app"

// Run runs the history that seed stands for. What it finds wrong fails t, with
// all that happened.
func Run(t testing.TB, backend Backend, seed uint64) Stats {
	stats, err := Try(t, backend, seed)
	if err != nil {
		t.Error(err)
	}
	return stats
}

// Try is Run, but returns what it finds wrong.
func Try(t testing.TB, backend Backend, seed uint64) (Stats, error) {
	h := &history{
		t: t, backend: backend, namespace: fmt.Sprintf("history-%d", seed),
		rand:    rand.New(rand.NewPCG(seed, 1)),
		waiting: map[*run][]*request{}, changed: make(chan struct{}, 1),
	}
	if err := backend.MakeNamespace(h.namespace); err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewServer(h)
	defer h.server.Close()
	h.stats.Histories = 1

	planned := h.plan()
	h.play(planned)
	// In the end a newest run, which nobody disturbs, has it all its way.
	last := &run{name: "last", time: 1000, event: "last", wants: h.wants()}
	h.play([]*run{last})
	if last.err != nil {
		h.wrong("the last run, undisturbed, fails: %v", last.err)
	}
	h.checkExactly(last.wants)
	if len(h.failures) == 0 {
		return h.stats, nil
	}
	var runs strings.Builder
	for _, r := range h.runs {
		fmt.Fprintf(&runs, "%s (event %s of %d, overrides %q, wants %v): %v\n%s", r.name, r.event, r.time, r.overrides, r.wants, r.err, r.log.String())
	}
	return h.stats, fmt.Errorf("seed %d:\n%s\n\nwhat happened:\n%s\n\n%s", seed, strings.Join(h.failures, "\n"), strings.Join(h.trace, "\n"), runs.String())
}

// wants is a random overlay: some of five ConfigMaps, with one of two values,
// so that many are the same in several runs.
func (h *history) wants() map[string]string {
	wants := map[string]string{}
	for len(wants) == 0 {
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			if h.rand.IntN(2) == 0 {
				wants[name] = fmt.Sprint(h.rand.IntN(2))
			}
		}
	}
	return wants
}

// plan makes the runs, in the order in which they start.
func (h *history) plan() []*run {
	var runs []*run
	for i := range 2 + h.rand.IntN(4) {
		r := &run{name: fmt.Sprintf("run-%d", i), time: 1 + h.rand.IntN(9), event: fmt.Sprintf("e%d", i), wants: h.wants()}
		if i > 0 {
			switch other := runs[h.rand.IntN(len(runs))]; h.rand.IntN(6) {
			case 0: // a repetition of another
				r.time, r.event, r.wants, r.overrides = other.time, other.event, other.wants, other.overrides
			case 1: // a rollback from another, by its name
				r.overrides = other.event
			}
		}
		if h.rand.IntN(4) == 0 {
			r.killAt = 1 + h.rand.IntN(30)
		}
		runs = append(runs, r)
	}
	return runs
}

// play runs runs, each request of theirs when chance says so.
func (h *history) play(runs []*run) {
	var frozen *run
	thaw := 0
	for {
		h.settle()
		h.mu.Lock()
		var ready []*run
		for r, requests := range h.waiting {
			if len(requests) > 0 && r != frozen {
				ready = append(ready, r)
			}
		}
		slices.SortFunc(ready, func(a, b *run) int { return strings.Compare(a.name, b.name) })
		h.mu.Unlock()
		thaw--
		switch {
		case len(runs) > 0 && (len(ready) == 0 || h.rand.IntN(12) == 0):
			h.start(runs[0])
			runs = runs[1:]
		case len(ready) == 0 && frozen != nil:
			frozen = nil
		case len(ready) == 0:
			return
		case frozen == nil && h.rand.IntN(25) == 0:
			// Paused, until everybody else is done or for a while.
			frozen, thaw = ready[h.rand.IntN(len(ready))], h.rand.IntN(120)
		default:
			if thaw < 0 {
				frozen = nil
			}
			h.step(ready[h.rand.IntN(len(ready))])
		}
	}
}

// settle waits until each run that has not ended waits for a request.
func (h *history) settle() {
	for {
		h.mu.Lock()
		settled := true
		for _, r := range h.runs {
			settled = settled && (r.ended || len(h.waiting[r]) > 0)
		}
		h.mu.Unlock()
		if settled {
			return
		}
		<-h.changed
	}
}

func (h *history) notify() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *history) start(r *run) {
	ctx, cancel := context.WithCancel(h.t.Context())
	r.cancel = cancel
	h.trace = append(h.trace, r.name+" starts")
	h.stats.Runs++
	dir := h.t.TempDir()
	var manifests []string
	for _, name := range slices.Sorted(maps.Keys(r.wants)) {
		manifests = append(manifests, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  is: %q\n", name, r.wants[name]))
	}
	for name, content := range map[string]string{
		"kustomization.yaml": "resources: [all.yaml]\n",
		"all.yaml":           strings.Join(manifests, "---\n"),
		"kubeconfig": fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\n"+
			"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", h.server.URL+"/"+r.name),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	env := map[string]string{
		"PARAM_VERB": "apply", "PARAM_NAME": deployName, "PARAM_NAMESPACE": h.namespace, "PARAM_TIMEOUT": "1h", "PARAM_PRUNE": "true",
		"PARAM_OVERLAY": ".", "WORKSPACE_SOURCE_PATH": dir, "WORKSPACE_KUBECONFIG_PATH": dir,
		"PARAM_EVENT_TIME": fmt.Sprint(r.time), "PARAM_EVENT_ID": r.event, "PARAM_RUN": r.name, "PARAM_OVERRIDES": r.overrides,
	}
	h.mu.Lock()
	h.runs = append(h.runs, r)
	h.mu.Unlock()
	go func() {
		err := deploy.Run(ctx, nil, envconfig.MapLookuper(env), &r.log)
		cancel()
		h.mu.Lock()
		defer h.mu.Unlock()
		r.err, r.ended = err, true
		h.notify()
	}()
}

// ServeHTTP holds a deploy's request until its time has come.
func (h *history) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	r.URL.Path = "/" + path
	if path == "api" || path == "apis" || path == "api/v1" || strings.HasPrefix(path, "apis/") {
		h.backend.ServeHTTP(w, r)
		return
	}
	h.mu.Lock()
	at := slices.IndexFunc(h.runs, func(r *run) bool { return r.name == name })
	from := h.runs[at]
	q := &request{line: fmt.Sprintf("%s %s %s %s", name, r.Method, strings.TrimPrefix(path, "api/v1/namespaces/"+h.namespace+"/"), r.URL.Query().Get("dryRun")), proceed: make(chan bool, 1), done: make(chan struct{})}
	if from.killed {
		h.mu.Unlock()
		return
	}
	h.waiting[from] = append(h.waiting[from], q)
	h.notify()
	h.mu.Unlock()
	defer close(q.done)
	if <-q.proceed {
		recorder := httptest.NewRecorder()
		h.backend.ServeHTTP(recorder, r)
		q.line = fmt.Sprintf("%s -> %d", q.line, recorder.Code)
		maps.Copy(w.Header(), recorder.Header())
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes()) // it may have been killed meanwhile
	}
}

// step lets one request of r through, or ends r with all of them.
func (h *history) step(r *run) {
	h.mu.Lock()
	i := h.rand.IntN(len(h.waiting[r]))
	q := h.waiting[r][i]
	h.waiting[r] = slices.Delete(h.waiting[r], i, i+1)
	h.mu.Unlock()
	r.requests++
	h.stats.Requests++
	q.proceed <- true
	<-q.done
	h.trace = append(h.trace, q.line)
	if r.killAt > 0 && r.requests >= r.killAt {
		h.kill(r)
	}
	h.check()
}

func (h *history) kill(r *run) {
	h.trace = append(h.trace, r.name+" is killed")
	h.mu.Lock()
	r.killed = true
	for _, q := range h.waiting[r] {
		q.proceed <- false
	}
	h.waiting[r] = nil
	h.mu.Unlock()
	r.cancel()
	h.stats.Killed++
}
