// Package flow does what users of Slipway do, on a real cluster: install the
// tasks, push a repository, watch the run, ask the app. The demo, the
// end-to-end tests and the benchmarks are made of it.
//
// It uses nothing but the Kubernetes API, so that any cluster will do.
package flow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-ci/slipway/test/cluster"
)

// Cluster is the cluster that KUBECONFIG names.
type Cluster struct {
	Config *rest.Config
	Kube   kubernetes.Interface
	Tekton tekton.Interface

	// Registry is where images are pushed to, as pods and nodes call it. It
	// takes pushes without credentials.
	Registry string
	// Images is what the names of apps' images start with: Registry and a
	// slash, or more, so that there are none of them yet. What a registry has
	// need not be built.
	Images string
	// GoProxy is the GOPROXY of builds; empty means Go's own default.
	GoProxy string
	// RegistryMaps tells where images of other registries are found, in the
	// form of the build task's param; empty where they can be pulled.
	RegistryMaps []string
	// InsecureRegistry is Registry where that has no TLS.
	InsecureRegistry string
}

// Connect reaches the cluster of KUBECONFIG: call [cluster.Enter] before. On
// somebody's own cluster SLIPWAY_REGISTRY names the registry.
func Connect(ctx context.Context) (*Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 100
	config.WarningHandler = rest.NoWarnings{}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	tektonClient, err := tekton.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Config: config, Kube: kube, Tekton: tektonClient}
	if cluster.Local() {
		c.Registry, c.InsecureRegistry, c.GoProxy, c.RegistryMaps = cluster.Registry, cluster.Registry, cluster.GoProxy, cluster.Mirrors()
		c.Images = c.Registry + "/"
		return c, nil
	}
	c.Registry = os.Getenv("SLIPWAY_REGISTRY")
	c.Images = c.Registry + "/"
	return c, c.check(ctx)
}

// check says what a cluster that is not ours lacks.
func (c *Cluster) check(ctx context.Context) error {
	var missing []error
	if c.Registry == "" {
		missing = append(missing, errors.New("SLIPWAY_REGISTRY is not set: name a registry that pods can push to, and nodes pull from, without credentials"))
	}
	if os.Getenv("KO_DOCKER_REPO") == "" {
		missing = append(missing, errors.New("KO_DOCKER_REPO is not set: name a repository that this machine can push step images to"))
	}
	groups, err := c.Kube.Discovery().ServerGroups()
	if err != nil {
		return fmt.Errorf("ask the cluster of KUBECONFIG what it serves: %w", err)
	}
	served := map[string]bool{}
	for _, group := range groups.Groups {
		served[group.Name] = true
	}
	for group, what := range map[string]string{"tekton.dev": "Tekton Pipelines", "triggers.tekton.dev": "Tekton Triggers"} {
		if !served[group] {
			missing = append(missing, fmt.Errorf("%s is not installed", what))
		}
	}
	// Pushes go to it, and it announces them to the demo's listener.
	if _, err := c.Kube.AppsV1().Deployments("git").Get(ctx, "git", metav1.GetOptions{}); err != nil {
		missing = append(missing, fmt.Errorf("no git server: %w; install it with KO_DEFAULTBASEIMAGE=IMAGE_WITH_GIT ko apply -f test/cluster/manifests/git-server.yaml", err))
	}
	if len(missing) > 0 {
		return fmt.Errorf("the cluster of KUBECONFIG cannot be used yet:\n%w", errors.Join(missing...))
	}
	return nil
}

// Eventually waits until ok returns nil; its error says what was still wrong.
func Eventually(ctx context.Context, within time.Duration, what string, ok func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		err := ok(ctx)
		// An attempt that the deadline cut short says nothing of the object.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, errors.Join(err, last))
	}
	return nil
}

// git runs the git command in dir, as somebody with a name and without the
// settings of whoever runs this.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Slipway", "GIT_AUTHOR_EMAIL=slipway@example.com",
		"GIT_COMMITTER_NAME=Slipway", "GIT_COMMITTER_EMAIL=slipway@example.com",
	)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return string(out), nil
}
