package flow

import (
	"context"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// NewRun is examples/app/run.yaml with the names of this cluster and app, for a
// commit. Everything of the app goes to namespace, whatever its overlay says.
func (c *Cluster) NewRun(namespace string, app App, commit string) (*v1.PipelineRun, error) {
	return inNamespace(c.newBuild("run.yaml", namespace, app, commit))
}

// NewOnePodRun is examples/app/run-one-pod.yaml, as NewRun is.
func (c *Cluster) NewOnePodRun(namespace string, app App, commit string) (*v1.PipelineRun, error) {
	return inNamespace(c.newBuild("run-one-pod.yaml", namespace, app, commit))
}

func (c *Cluster) newBuild(file, namespace string, app App, commit string) (*v1.PipelineRun, error) {
	run, err := c.newRun(file, namespace, app, commit)
	if err != nil {
		return nil, err
	}
	SetParam(run, "registry-maps", Array(c.RegistryMaps...))
	if c.InsecureRegistry != "" {
		SetParam(run, "insecure-registries", Array(c.InsecureRegistry))
	}
	return run, nil
}

// NewRollback is examples/app/rollback.yaml, back to a commit, as NewRun is.
func (c *Cluster) NewRollback(namespace string, app App, commit string) (*v1.PipelineRun, error) {
	return inNamespace(c.newRun("rollback.yaml", namespace, app, commit))
}

// NewPullRequest is examples/app/run-pull-request.yaml for a commit that a ref
// leads to, as NewRun is, and the manifests of its pipeline.
func (c *Cluster) NewPullRequest(namespace string, app App, commit, ref string) (run *v1.PipelineRun, manifests string, err error) {
	if manifests, err = c.example("pull-request.yaml", namespace, app); err != nil {
		return nil, "", err
	}
	if run, err = c.newBuild("run-pull-request.yaml", namespace, app, commit); err != nil {
		return nil, "", err
	}
	SetParam(run, "refspec", *v1.NewStructuredValues(ref))
	return run, manifests, nil
}

func (c *Cluster) newRun(file, namespace string, app App, commit string) (*v1.PipelineRun, error) {
	example, err := c.example(file, namespace, app)
	if err != nil {
		return nil, err
	}
	run := &v1.PipelineRun{}
	if err := yaml.UnmarshalStrict([]byte(example), run); err != nil {
		return nil, err
	}
	run.Namespace = namespace
	SetParam(run, "revision", *v1.NewStructuredValues(commit))
	return run, nil
}

// inNamespace has a run deploy everything to its own namespace.
func inNamespace(run *v1.PipelineRun, err error) (*v1.PipelineRun, error) {
	if err != nil {
		return nil, err
	}
	SetParam(run, "namespace", *v1.NewStructuredValues(run.Namespace))
	return run, nil
}

// Array is the value of an array param.
func Array(values ...string) v1.ParamValue {
	return v1.ParamValue{Type: v1.ParamTypeArray, ArrayVal: values}
}

// SetParam gives one of a run's params another value.
func SetParam(run *v1.PipelineRun, name string, value v1.ParamValue) {
	run.Spec.Params = append(slices.DeleteFunc(run.Spec.Params, func(p v1.Param) bool { return p.Name == name }), v1.Param{Name: name, Value: value})
}

// Start creates a run and returns its name.
func (c *Cluster) Start(ctx context.Context, run *v1.PipelineRun) (name string, err error) {
	created, err := c.Tekton.TektonV1().PipelineRuns(run.Namespace).Create(ctx, run, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return created.Name, nil
}
