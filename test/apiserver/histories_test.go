package apiserver_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/slipway-ci/slipway/test/apiserver"
	"github.com/slipway-ci/slipway/test/histories"
)

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
