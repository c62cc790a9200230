// Package inventory knows the pods of the namespace that it runs in.
package inventory

import (
	"context"
	"log/slog"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"pod-board/internal/words"
)

// Pods lists pods; without a cluster there are none.
type Pods struct {
	client    kubernetes.Interface
	namespace string
}

// New asks the cluster that it runs in.
func New() *Pods {
	config, err := rest.InClusterConfig()
	if err != nil {
		slog.Warn("no cluster", "error", err)
		return &Pods{}
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		slog.Warn("no client", "error", err)
		return &Pods{}
	}
	namespace, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		slog.Warn("no namespace", "error", err)
		return &Pods{}
	}
	return &Pods{client, string(namespace)}
}

// Names are those of the pods that run.
func (p *Pods) Names(ctx context.Context) []string {
	if p.client == nil {
		return nil
	}
	pods, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		slog.Warn("list pods", "error", err)
		return nil
	}
	var names []string
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			names = append(names, pod.Name)
		}
	}
	return names
}

// Summary says how many there are.
func Summary(names []string) string { return words.Count(len(names)) }
