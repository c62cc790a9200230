package deploy

import (
	"maps"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// inSync reports whether t's object is in the cluster as applying it would
// leave it. The API server keeps the fields that the last apply set: if they
// are those of the object, and each has its value still, then applying it again
// changes neither a field nor an owner. Where that cannot be told (the API
// server has written a value in its own way, a list has others' items) it
// reports false, and a dry run has to say.
// Source: sigs.k8s.io/structured-merge-diff/v6, merge and typed.
func (t *target) inSync() bool {
	if t.before == nil || t.before.GetDeletionTimestamp() != nil {
		return false
	}
	owned, others, ok := owners(t.before, t.object.GetAPIVersion())
	return ok && holds(owned, others, withoutIdentity(t.object), t.before.Object)
}

// owners are the fields that the deploy's last apply of object set, and those
// that other managers set. It reports false if they are not known in the version
// apiVersion.
func owners(object *unstructured.Unstructured, apiVersion string) (owned, others *fieldpath.Set, ok bool) {
	others = &fieldpath.Set{}
	for _, entry := range object.GetManagedFields() {
		if entry.FieldsV1 == nil || entry.APIVersion != apiVersion {
			return nil, nil, false
		}
		fields := &fieldpath.Set{}
		if err := fields.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			return nil, nil, false
		}
		if entry.Manager == fieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			owned = fields
		} else {
			others = others.Union(fields)
		}
	}
	return owned, others, owned != nil
}

// withoutIdentity is what an object says besides its identity, which nobody
// owns.
func withoutIdentity(object *unstructured.Unstructured) map[string]any {
	content := maps.Clone(object.Object)
	delete(content, "apiVersion")
	delete(content, "kind")
	metadata, _ := content["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	delete(metadata, "name")
	delete(metadata, "namespace")
	if content["metadata"] = metadata; len(metadata) == 0 {
		delete(content, "metadata")
	}
	return content
}

// holds reports whether want has the fields of owned, no other, and have the
// same values in them.
func holds(owned, others *fieldpath.Set, want, have any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok || countElements(owned) != len(want) {
			return false
		}
		for name, child := range want {
			there, ok := have[name]
			if !ok || !holdsAt(owned, others, fieldpath.FieldNameElement(name), child, there) {
				return false
			}
		}
		return true
	case []any:
		// Of a list that others add to, or in another order, only the API server
		// knows what an apply makes.
		have, ok := have.([]any)
		if !ok || len(have) != len(want) || countElements(owned) != len(want) {
			return false
		}
		for i, item := range want {
			element, ok := elementOf(owned, item, have[i])
			if !ok || !holdsAt(owned, others, element, item, have[i]) {
				return false
			}
		}
		return true
	}
	return false
}

// holdsAt is holds for one element of a map or a list.
func holdsAt(owned, others *fieldpath.Set, element fieldpath.PathElement, want, have any) bool {
	theirs := others.WithPrefix(element)
	if children, ok := owned.Children.Get(element); ok {
		return holds(children, theirs, want, have)
	}
	// A value that is owned as a whole: a scalar, a list or a map that is atomic.
	// A map that others own parts of is none: it was empty when it was applied.
	return owned.Members.Has(element) && theirs.Empty() && reflect.DeepEqual(want, have)
}

// countElements is how many different elements owned has at its top.
func countElements(owned *fieldpath.Set) int {
	n := owned.Members.Size()
	for element := range owned.Children.All() {
		if !owned.Members.Has(element) {
			n++
		}
	}
	return n
}

// elementOf is the element of owned that stands for an item of a list: by the
// fields that are its key, or by its value in a set. A field of the key that the
// item leaves out has its default there.
func elementOf(owned *fieldpath.Set, item, there any) (fieldpath.PathElement, bool) {
	fields, isMap := item.(map[string]any)
	defaults, _ := there.(map[string]any)
	for element := range owned.Members.All() { // each item is a member
		switch {
		case isMap && element.Key != nil && hasKey(fields, defaults, *element.Key),
			!isMap && element.Value != nil && value.Equals(*element.Value, value.NewValueInterface(item)):
			return element, true
		}
	}
	return fieldpath.PathElement{}, false
}

func hasKey(fields, defaults map[string]any, key value.FieldList) bool {
	for _, field := range key {
		have, ok := fields[field.Name]
		if !ok {
			have, ok = defaults[field.Name]
		}
		if !ok || !value.Equals(field.Value, value.NewValueInterface(have)) {
			return false
		}
	}
	return true
}
