package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	appsv1 "k8s.io/client-go/kubernetes/typed/apps/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is where a deploy goes.
type cluster struct {
	host      string
	namespace string // of objects that name none
	dynamic   dynamic.Interface
	kinds     meta.ResettableRESTMapper
	served    discovery.CachedDiscoveryInterface // what kinds goes by
	core      corev1.CoreV1Interface
	apps      appsv1.AppsV1Interface
	log       *mask
}

// What client-go cannot discover it returns, and it would log it as well: past
// the mask, and of a discovery that ends with its run too.
func init() { utilruntime.ErrorHandlers = nil }

// connect opens the cluster that the file "kubeconfig" in folder names, or the
// one this process runs in where folder is "". What client-go asks of its own
// accord, such as for the kinds that there are, ends with ctx.
func connect(ctx context.Context, folder, named, namespace string, log *mask) (*cluster, error) {
	var file string
	switch {
	case folder != "":
		file = filepath.Join(folder, "kubeconfig")
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("the kubeconfig workspace has no file named kubeconfig: %w", err)
		}
	case named != "":
		return nil, fmt.Errorf("context %q is given without a kubeconfig; bind the workspace kubeconfig", named)
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: named}
	overrides.Context.Namespace = namespace
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: file}, overrides)
	config, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) || errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no cluster to deploy to: this does not run in one; bind the workspace kubeconfig")
	} else if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, fmt.Errorf("read the namespace of the kubeconfig: %w", err)
		}
	}
	config.UserAgent = "slipway-deploy"
	config.ContentType = "application/json" // as the objects are written, the inventory too
	config.QPS = -1                         // the API server's own fairness decides
	config.WarningHandler = rest.NewWarningWriter(log, rest.WarningWriterOptions{Deduplicate: true})
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return ending{ctx, next} })

	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", config.Host, err)
	}
	c := &cluster{host: config.Host, namespace: namespace, log: log}
	return c, c.open(config, client)
}

// ending ends requests that have no end of their own with ctx: discovery takes
// no context.
type ending struct {
	ctx  context.Context
	next http.RoundTripper
}

func (e ending) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Context().Done() == nil {
		r = r.WithContext(e.ctx)
	}
	return e.next.RoundTrip(r)
}

func (c *cluster) open(config *rest.Config, client *http.Client) error {
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(config, client)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.host, err)
	}
	c.served = memory.NewMemCacheClient(kinds)
	c.kinds = restmapper.NewDeferredDiscoveryRESTMapper(c.served)
	if c.dynamic, err = dynamic.NewForConfigAndClient(config, client); err != nil {
		return fmt.Errorf("connect to %s: %w", c.host, err)
	}
	if c.core, err = corev1.NewForConfigAndClient(config, client); err != nil {
		return fmt.Errorf("connect to %s: %w", c.host, err)
	}
	if c.apps, err = appsv1.NewForConfigAndClient(config, client); err != nil {
		return fmt.Errorf("connect to %s: %w", c.host, err)
	}
	return nil
}

// discover asks for the kinds that the cluster has, so that they are known when
// they are needed. If it fails, it is asked again then.
func (c *cluster) discover() {
	_, _ = c.kinds.RESTMapping(schema.GroupKind{Kind: "ConfigMap"})
}

// resource is where object lives. It gives object the namespace that it needs:
// the default one where it has none, and none where its kind has none.
func (c *cluster) resource(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	mapping, err := c.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		object.SetNamespace("")
		return c.dynamic.Resource(mapping.Resource), nil
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(c.namespace)
	}
	return c.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace()), nil
}

// anyResource is where object lives, and gives it a version that is served if
// its own is not any more.
func (c *cluster) anyResource(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	resource, err := c.resource(object)
	if !meta.IsNoMatchError(err) {
		return resource, err
	}
	mapping, err := c.kinds.RESTMapping(object.GroupVersionKind().GroupKind())
	if err != nil {
		return nil, err
	}
	object.SetGroupVersionKind(mapping.GroupVersionKind)
	return c.resource(object)
}

// undiscovered is why it is not known which kinds a group has, or nil if it is.
func (c *cluster) undiscovered(group string) error {
	_, _, err := c.served.ServerGroupsAndResources()
	var partly *discovery.ErrGroupDiscoveryFailed
	if !errors.As(err, &partly) {
		return err
	}
	for version, err := range partly.Groups {
		if version.Group == group {
			return err
		}
	}
	return nil
}

// called is how an object is named in the log: "deployment.apps/feed-agg".
func called(object *unstructured.Unstructured) string {
	kind := object.GroupVersionKind()
	name := strings.ToLower(kind.Kind)
	if kind.Group != "" {
		name += "." + kind.Group
	}
	return name + "/" + object.GetName()
}

// located is how an object is named in an error: with its namespace.
func located(object *unstructured.Unstructured) string {
	if namespace := object.GetNamespace(); namespace != "" {
		return called(object) + " in namespace " + namespace
	}
	return called(object)
}
