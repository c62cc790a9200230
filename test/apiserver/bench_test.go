package apiserver_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/slipway-ci/slipway/test/apiserver"
	"github.com/slipway-ci/slipway/test/cluster/parts"
)

// rounds are how often each deploy is measured; the median counts.
const rounds = 5

// BenchmarkDeploy prints what a deploy costs on a real API server, beside
// kubectl apply -k --server-side, of 10, 100 and 500 objects:
//
//	go test ./test/apiserver -run '^$' -bench Deploy -benchtime 1x
func BenchmarkDeploy(b *testing.B) {
	server := apiserver.Start(b)
	admin := kubernetes.NewForConfigOrDie(server.Config())
	program := filepath.Join(b.TempDir(), "deploy")
	if output, err := exec.Command("go", "build", "-o", program, "github.com/slipway-ci/slipway/cmd/deploy").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, output)
	}
	dir, err := parts.Ensure(b.Context(), "kubernetes", filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	kubectl := filepath.Join(b.TempDir(), "kubectl")
	if err := os.Symlink(filepath.Join(dir, "kubernetes"), kubectl); err != nil {
		b.Fatal(err)
	}
	kubeconfig := server.Kubeconfig(b, "")
	for _, n := range []int{10, 100, 500} {
		source := b.TempDir()
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: feeds-%d\ndata:\n  feeds: %q\n---\n", i, strings.Repeat("x", 500))
		}
		write(b, filepath.Join(source, "kustomization.yaml"), "resources: [all.yaml]\n")
		write(b, filepath.Join(source, "all.yaml"), all.String())
		took, memory := map[string][]time.Duration{}, map[string]int64{}
		for range rounds {
			for _, who := range []string{"deploy", "kubectl"} {
				namespace := fmt.Sprintf("%s-%d-%d", who, n, time.Now().UnixNano())
				if _, err := admin.CoreV1().Namespaces().Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
					b.Fatal(err)
				}
				for _, what := range []string{"apply", "again"} {
					cmd := exec.Command(kubectl, "--kubeconfig", filepath.Join(kubeconfig, "kubeconfig"), "-n", namespace, "apply", "-k", source, "--server-side")
					if who == "deploy" {
						cmd = exec.Command(program)
						cmd.Env = []string{
							"PARAM_VERB=apply", "PARAM_NAME=bench", "PARAM_NAMESPACE=" + namespace, "PARAM_TIMEOUT=1m", "PARAM_PRUNE=true", "PARAM_OVERLAY=.",
							"WORKSPACE_SOURCE_PATH=" + source, "WORKSPACE_KUBECONFIG_PATH=" + kubeconfig,
						}
					}
					begun := time.Now()
					if output, err := cmd.CombinedOutput(); err != nil {
						b.Fatalf("%v\n%s", err, output)
					}
					key := who + " " + what
					took[key] = append(took[key], time.Since(begun))
					usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
					memory[key] = max(memory[key], usage.Maxrss/1024)
				}
			}
		}
		for _, key := range []string{"deploy apply", "deploy again", "kubectl apply", "kubectl again"} {
			slices.Sort(took[key])
			fmt.Printf("%3d objects, %-13s: %4d ms, %3d MB\n", n, key, took[key][rounds/2].Milliseconds(), memory[key])
		}
	}
}

func write(b *testing.B, path, content string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.Fatal(err)
	}
}
