package deploy

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/internal/step"
)

// diff logs what applying the overlay would change, as the API server says after
// a dry run of everything. It writes nothing, and neither waits for its place
// nor takes one.
func (c *config) diff(ctx context.Context, log *mask) error {
	d, err := c.open(ctx, log)
	if err != nil {
		return err
	}
	r, err := c.render(ctx, log)
	if err != nil {
		return err
	}
	if d.now, err = d.read(ctx); err != nil {
		return err
	}
	objects, hooks, err := splitHooks(r.objects, d.attempt)
	if err != nil {
		return err
	}
	grounds, settings, works := byStage(d.targets(objects, hooks))
	targets := slices.Concat(grounds, settings, works)
	later, err := d.check(ctx, grounds, slices.Concat(targets, hooks.all()))
	if err != nil {
		return err
	}
	for _, t := range later { // their kind or namespace is not there either
		t.before, t.trial = nil, t.object
	}
	made := changes{}
	for _, t := range targets {
		log.hide(t.before)
		made[t.forecast()]++
		if err := printDiff(log, t); err != nil {
			return err
		}
	}
	for _, hook := range hooks.all() {
		logf(log, "%s would run, a hook", called(hook.object))
	}
	d.now.Objects, d.now.Leftovers = identities(targets), without(append(d.now.Leftovers, d.now.Objects...), identities(targets))
	gone, err := d.leftovers(ctx)
	if err != nil {
		return err
	}
	for _, x := range gone {
		if x.object.GetKind() == "Job" && x.before.GetAnnotations()[annotationHook] != "" {
			continue // a hook that has run: no change of the app
		}
		made[pruned]++
		logf(log, "%s would be pruned", called(x.object))
	}
	logf(log, "it would be: %s", made)
	return step.WriteResult(c.Changes, made.String())
}

// forecast is what applying t would do.
func (t *target) forecast() change {
	switch {
	case t.before == nil:
		return created
	case t.recreate:
		return recreated
	case t.trial != nil && equality.Semantic.DeepEqual(content(t.before), content(t.trial)):
		return unchanged // but, it may be, for who owns a field
	default:
		return configured
	}
}

func printDiff(log io.Writer, t *target) error {
	if t.forecast() == unchanged {
		return nil
	}
	would := t.trial
	if would == nil {
		would = t.object
	}
	from, err := manifest(withoutValues(t.before, nil))
	if err != nil {
		return err
	}
	to, err := manifest(withoutValues(would, t.before))
	if err != nil {
		return err
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(from), B: difflib.SplitLines(to),
		FromFile: "the cluster's " + located(t.object), ToFile: "the overlay's", Context: 3,
	})
	if err != nil {
		return err
	}
	logf(log, "%s would be %s", called(t.object), t.forecast())
	if text != "" {
		_, err = io.WriteString(log, text)
	}
	return err
}

// manifest is an object as its author knows it.
func manifest(object *unstructured.Unstructured) (string, error) {
	if object == nil {
		return "", nil
	}
	own := &unstructured.Unstructured{Object: content(object)}
	own.SetUID("")
	unstructured.RemoveNestedField(own.Object, "metadata", "creationTimestamp")
	text, err := yaml.Marshal(own.Object)
	return string(text), err
}

// printManifests writes objects with the values of secrets masked: a log is no
// place for them.
func printManifests(log io.Writer, objects []*unstructured.Unstructured) error {
	var shown []*unstructured.Unstructured
	for _, object := range objects {
		shown = append(shown, withoutValues(object, nil))
	}
	text, err := manifests(shown)
	if err != nil {
		return err
	}
	_, err = io.WriteString(log, text)
	return err
}

// manifests are objects as kustomize prints them.
func manifests(objects []*unstructured.Unstructured) (string, error) {
	var all strings.Builder
	for i, object := range objects {
		if i > 0 {
			all.WriteString("---\n")
		}
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return "", fmt.Errorf("print %s: %w", located(object), err)
		}
		all.Write(text)
	}
	return all.String(), nil
}
