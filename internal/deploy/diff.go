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
	d.discreet = true
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
	before, would, hidden := t.before, t.trial, ""
	if would == nil {
		would = t.object
	}
	if t.withheld {
		before, hidden = nil, ", not shown"
	}
	from, err := manifest(withoutValues(before, nil))
	if err != nil {
		return err
	}
	to, err := manifest(withoutValues(would, before))
	if err != nil {
		return err
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(from), B: difflib.SplitLines(to),
		FromFile: "the cluster's " + located(t.object) + hidden, ToFile: "the overlay's", Context: 3,
	})
	if err != nil {
		return err
	}
	if t.withheld {
		logf(log, "%s is there and is not this deploy's: what it has is not shown, and what would become of it not tried; to see that, set take-ownership-from to %s",
			called(t.object), strings.Join(append(managers(t.before), everyone), " or "))
	} else {
		logf(log, "%s would be %s", called(t.object), t.forecast())
	}
	if text != "" {
		_, err = io.WriteString(log, t.veil().text(text))
	}
	return err
}

// withholds reports whether a diff shows nothing of what t's object has, and
// tries nothing on it: the API server's answer tells too, by what it refuses and
// what it calls the same. Whoever wrote the overlay may name any object that the
// deploy's account can read. What is shown is the deploy's already, by its labels
// or its inventory, or has a manager that it is told to take over from.
func (d *deployment) withholds(t *target) bool {
	if !d.discreet || t.before == nil || slices.Contains(d.adoptFrom, everyone) {
		return false
	}
	labels, id := t.before.GetLabels(), identify(t.object)
	return (labels[labelName] != d.name || labels[labelNamespace] != d.namespace) &&
		!contained(id, d.now.Objects) && !contained(id, d.now.Leftovers) &&
		!slices.ContainsFunc(managers(t.before), func(name string) bool { return slices.Contains(d.adoptFrom, name) })
}

// veil masks the values that t's Secret has in the cluster, in what is said of t:
// in what is said of other objects, masking would tell their author which of
// their texts are values of it. The same goes for what the overlay itself says of t.
func (t *target) veil() *mask {
	veil := &mask{}
	if t.withheld {
		return veil
	}
	veil.hide(t.before)
	said := fmt.Sprint(t.object.Object)
	veil.values = slices.DeleteFunc(veil.values, func(value string) bool { return strings.Contains(said, value) })
	return veil
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
