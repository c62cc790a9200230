package flow

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/slipway-ci/slipway/test/cluster"
)

// Resolve builds the step images and returns the tasks, which name them by
// digest, and the pipelines, ready for [Cluster.Install].
func Resolve(ctx context.Context) (string, error) {
	var manifests bytes.Buffer
	err := cluster.Resolve(ctx, &manifests, "tasks", "pipelines")
	return manifests.String(), err
}

// madeHere is the label of the namespaces that this package has made, and may
// remove.
const madeHere = "slipway-ci.github.io/test"

// Install gives a namespace, which it makes, the tasks and pipelines, the
// git-clone task if it has none, and the claim.
func (c *Cluster) Install(ctx context.Context, namespace, resolved string) error {
	_, err := c.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{madeHere: "true"}}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	manifests := resolved
	if _, err := c.Tekton.TektonV1().Tasks(namespace).Get(ctx, "git-clone", metav1.GetOptions{}); apierrors.IsNotFound(err) {
		var gitClone bytes.Buffer
		if err := cluster.Resolve(ctx, &gitClone, "test/cluster/manifests/git-clone.yaml"); err != nil {
			return err
		}
		manifests += "\n---\n" + gitClone.String()
	}
	claim, err := os.ReadFile(filepath.Join(cluster.Root(), "examples", "app", "claim.yaml"))
	if err != nil {
		return err
	}
	return c.Apply(ctx, namespace, manifests+"\n---\n"+string(claim))
}

// WebhookSecret is the git server's, as is GitLogin, USER:PASSWORD for private
// repositories (test/cluster/manifests/git-server.yaml).
const (
	WebhookSecret = "launch-the-webhook"
	GitLogin      = "robot:below-deck"
)

// App is what an app has in place of the names in examples/app.
type App struct {
	Name       string // in place of feed-agg: of the app, its image and its runs
	Repository string // on the git server, in place of example/feed-agg; who fetches one of private/ has to log in
	Overlay    string // folder of its kustomize overlay
	Template   string // TriggerTemplate of its pushes, in place of slipway-push; "" is that
}

// InstallTriggers makes pushes of the apps become runs: what triggers/ has, and
// examples/app/trigger.yaml with the names of each app and this cluster. It
// returns when the listener takes events.
func (c *Cluster) InstallTriggers(ctx context.Context, namespace string, apps ...App) error {
	const binding = "    - ref: slipway-push\n"
	addition := strings.NewReplacer(binding, binding+
		"    - {name: registry-map, value: "+strconv.Quote(strings.Join(c.RegistryMaps, ";"))+"}\n"+
		"    - {name: insecure-registry, value: "+strconv.Quote(c.InsecureRegistry)+"}\n")
	// The listener comes last: without its rights and its secret it would crash.
	manifests := []string{"{apiVersion: v1, kind: Secret, metadata: {name: slipway-webhook}, stringData: {token: " + WebhookSecret + "}}"}
	for _, app := range apps {
		for _, file := range []string{"listener-binding.yaml", "trigger.yaml"} {
			example, err := c.example(file, namespace, app)
			if err != nil {
				return err
			}
			manifests = append(manifests, addition.Replace(example))
		}
	}
	for _, file := range []string{"cluster-role.yaml", "push.yaml", "push-one-pod.yaml", "push-private.yaml", "listener.yaml"} {
		content, err := os.ReadFile(filepath.Join(cluster.Root(), "triggers", file))
		if err != nil {
			return err
		}
		manifests = append(manifests, string(content))
	}
	if err := c.Apply(ctx, namespace, strings.Join(manifests, "\n---\n")); err != nil {
		return err
	}
	return Eventually(ctx, time.Minute, "the EventListener", func(ctx context.Context) error {
		listener, err := c.Kube.AppsV1().Deployments(namespace).Get(ctx, "el-slipway", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if listener.Status.AvailableReplicas == 0 {
			return errors.New("deployment el-slipway has no replica that is ready; see its log")
		}
		return nil
	})
}

// example is a file of examples/app with the names of this cluster and app in
// the place of the example's.
func (c *Cluster) example(file, namespace string, app App) (string, error) {
	content, err := os.ReadFile(filepath.Join(cluster.Root(), "examples", "app", file))
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"registry.example.com/", c.Images,
		"http://athens.athens.svc.cluster.local", strconv.Quote(c.GoProxy),
		"https://github.com/example/feed-agg.git", repositoryURL(app.Repository),
		"example/feed-agg", app.Repository,
		"kustomize/overlays/cluster30", app.Overlay,
		"slipway-listener-feed-agg", "slipway-listener-"+namespace,
		"namespace: feed-agg", "namespace: "+namespace,
		"feed-agg", app.Name,
		"template:\n    ref: slipway-push\n", "template:\n    ref: "+cmp.Or(app.Template, "slipway-push")+"\n",
	).Replace(string(content)), nil
}

// Apply applies every document of manifests, in namespace unless it names
// another. The namespace's own service account exists afterwards: a namespace
// that was just made lacks it for a moment.
func (c *Cluster) Apply(ctx context.Context, namespace, manifests string) error {
	client, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Kube.Discovery()))
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := documents.Decode(&object.Object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read manifests: %w", err)
		}
		if object.Object == nil {
			continue
		}
		mapping, err := mapper.RESTMapping(object.GroupVersionKind().GroupKind(), object.GroupVersionKind().Version)
		if err != nil {
			return err
		}
		var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			if object.GetNamespace() == "" {
				object.SetNamespace(namespace)
			}
			resource = client.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}
		if _, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "slipway-test", Force: true}); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return Eventually(ctx, 30*time.Second, "service account default of namespace "+namespace, func(ctx context.Context) error {
		_, err := c.Kube.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Remove deletes a namespace that Install has made, and waits until it is gone.
// Another's is left alone, with an error.
func (c *Cluster) Remove(ctx context.Context, namespace string) error {
	namespaces := c.Kube.CoreV1().Namespaces()
	if found, err := namespaces.Get(ctx, namespace, metav1.GetOptions{}); err == nil && found.Labels[madeHere] == "" {
		return fmt.Errorf("namespace %s was not made by a demo or a test: remove it yourself if nothing in it is needed, or use another cluster", namespace)
	}
	if err := namespaces.Delete(ctx, namespace, metav1.DeleteOptions{}); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return err
	}
	return Eventually(ctx, 2*time.Minute, "namespace "+namespace+" to be gone", func(ctx context.Context) error {
		found, err := namespaces.Get(ctx, namespace, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		var left []string
		for _, condition := range found.Status.Conditions {
			left = append(left, condition.Message)
		}
		return fmt.Errorf("it is %s: %s", found.Status.Phase, strings.Join(left, "; "))
	})
}
