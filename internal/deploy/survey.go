package deploy

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// survey reads what the cluster already has of the deploy's own objects, by
// one list a kind and namespace in the place of a request an object. An object
// that no list has may be there all the same, made by somebody else: its dry
// run as a new one finds that out. Where listing fails, each object is read by
// itself.
func (d *deployment) survey(ctx context.Context, targets []*target) {
	type place struct {
		kind      schema.GroupVersionKind
		namespace string
	}
	var (
		places []place
		at     = map[place][]*target{}
	)
	for _, t := range targets {
		t.listed = false
		var err error
		if t.resource, err = d.resource(t.object); err != nil || !prunable(t.object) {
			continue // it is tried by itself, or has no label
		}
		p := place{t.object.GroupVersionKind(), t.object.GetNamespace()}
		if at[p] == nil {
			places = append(places, p)
		}
		at[p] = append(at[p], t)
	}
	own := metav1.ListOptions{LabelSelector: labels.Set{labelName: d.name, labelNamespace: d.namespace}.String()}
	_ = each(places, false, func(p place) error {
		list, err := at[p][0].resource.List(ctx, own)
		if err == nil {
			found := map[string]*unstructured.Unstructured{}
			for i := range list.Items {
				found[list.Items[i].GetName()] = &list.Items[i]
			}
			for _, t := range at[p] {
				t.before, t.listed = found[t.object.GetName()], true
			}
		}
		return err // of no consequence
	})
}
