package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Annotations that the author of a manifest gives an object.
const (
	annotationRecreate = "slipway-ci.github.io/recreate" // "allowed": delete and create it where a field is immutable
	annotationPrune    = "slipway-ci.github.io/prune"    // "disabled": keep it; "allowed": prune it although its kind is kept
	annotationHook     = "slipway-ci.github.io/hook"     // "before", "after" or "verify": a Job that a deploy runs
	annotationWait     = "slipway-ci.github.io/wait"     // "tolerated": a failure of it does not fail the deploy; "none": not waited for
)

// annotationTouched is what a run writes to an object that it leaves as it is,
// to change its version.
const annotationTouched = "slipway-ci.github.io/touched-by"

// fieldManager owns the fields that a deploy sets, touchManager the annotation
// above.
const (
	fieldManager = "slipway"
	touchManager = "slipway-touch"
)

// onlyCreate is a resourceVersion that no object has (etcd's first write is
// revision 2): with it, a server-side apply creates an object that is not there
// and conflicts with one that is.
// Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go, Update.
const onlyCreate = "1"

// target is one object on its way into the cluster.
type target struct {
	object   *unstructured.Unstructured // as rendered, with the deploy's labels
	resource dynamic.ResourceInterface

	found    *unstructured.Unstructured // as it was before the deploy, nil if it was not there
	before   *unstructured.Unstructured // as last read: what writing depends on
	listed   bool                       // before comes from a list of the deploy's objects
	trial    *unstructured.Unstructured // what applying would make of before
	withheld bool                       // before is not the deploy's, and not to be shown or tried
	recreate bool                       // applying cannot change it, deleting it first is allowed
	force    bool                       // its conflicts are with managers that are to be taken over from
	after    *unstructured.Unstructured // as last seen once applied
}

// unchanged reports whether applying t would change nothing, not even who owns
// which field.
func (t *target) unchanged() bool {
	return t.before != nil && t.trial != nil && (t.trial == t.before || equality.Semantic.DeepEqual(stable(t.before), stable(t.trial)))
}

// read finds t's object as it is.
func (t *target) read(ctx context.Context) error {
	now, err := t.resource.Get(ctx, t.object.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		t.before = nil
		return nil
	} else if err != nil {
		return err
	}
	t.before = now
	return nil
}

// apply applies t's object to the version of it that was read, or creates it
// if there was none: anything else is a conflict.
func (t *target) apply(ctx context.Context, dryRun ...string) (*unstructured.Unstructured, error) {
	object := t.object.DeepCopy()
	if t.before == nil {
		object.SetResourceVersion(onlyCreate)
	} else {
		// With the uid, one that was deleted meanwhile is not created anew.
		object.SetUID(t.before.GetUID())
		object.SetResourceVersion(t.before.GetResourceVersion())
	}
	body, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	options := metav1.PatchOptions{
		FieldManager:    fieldManager,
		FieldValidation: metav1.FieldValidationStrict,
		DryRun:          dryRun,
	}
	if t.force {
		options.Force = &t.force
	}
	return t.resource.Patch(ctx, t.object.GetName(), types.ApplyPatchType, body, options)
}

// touch changes nothing about the object that was read but its version.
func (t *target) touch(ctx context.Context, attempt string) (*unstructured.Unstructured, error) {
	return t.patch(ctx, touchManager, map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotationTouched: attempt}}})
}

// patch changes the version of t's object that was read, and no other.
func (t *target) patch(ctx context.Context, manager string, change map[string]any) (*unstructured.Unstructured, error) {
	of := &unstructured.Unstructured{Object: change}
	of.SetUID(t.before.GetUID())
	of.SetResourceVersion(t.before.GetResourceVersion())
	body, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	return t.resource.Patch(ctx, t.object.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager})
}

// remove deletes the version of an object that was read, and no other.
func remove(ctx context.Context, resource dynamic.ResourceInterface, object *unstructured.Unstructured) error {
	uid, version, background := object.GetUID(), object.GetResourceVersion(), metav1.DeletePropagationBackground
	return resource.Delete(ctx, object.GetName(), metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
		PropagationPolicy: &background,
	})
}

// change is what applying t did.
func (t *target) change() change {
	switch {
	case t.found == nil:
		return created
	case t.found.GetUID() != t.after.GetUID():
		return recreated
	case t.found == t.after, equality.Semantic.DeepEqual(content(t.found), content(t.after)):
		return unchanged
	default:
		return configured
	}
}

// content is an object without what the API server and controllers keep in it.
func content(object *unstructured.Unstructured) map[string]any {
	own, metadata := bare(object)
	delete(metadata, "managedFields")
	if annotations, _ := metadata["annotations"].(map[string]any); annotations[annotationTouched] != nil {
		annotations = maps.Clone(annotations)
		delete(annotations, annotationTouched)
		metadata["annotations"] = annotations
		if len(annotations) == 0 {
			delete(metadata, "annotations")
		}
	}
	return own
}

// stable is an object without what changes whenever it is written, or by its
// controller.
func stable(object *unstructured.Unstructured) map[string]any {
	own, metadata := bare(object)
	entries, _ := metadata["managedFields"].([]any)
	var owners []any
	for _, entry := range entries {
		owner, _ := entry.(map[string]any)
		if owner["subresource"] == nil {
			owner = maps.Clone(owner)
			delete(owner, "time")
			owners = append(owners, owner)
		}
	}
	metadata["managedFields"] = owners
	return own
}

// bare is an object without its status and version, and its metadata. They are
// copies, what is in them belongs to object: of hundreds of objects, whole
// copies would cost as much as asking for them.
func bare(object *unstructured.Unstructured) (own, metadata map[string]any) {
	own = maps.Clone(object.Object)
	delete(own, "status")
	metadata, _ = own["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	delete(metadata, "resourceVersion")
	delete(metadata, "generation")
	own["metadata"] = metadata
	return own, metadata
}

// fixed is what the API server says of a field that cannot be changed once the
// object is there.
// Source: k8s.io/apimachinery/pkg/api/validation, and the validation of
// Service, StatefulSet, Pod, RoleBinding and StorageClass in k8s.io/kubernetes.
var fixed = regexp.MustCompile(`immutable|updates to statefulset spec for fields other than|pod updates may not change fields other than|cannot change roleRef|may not change once set|updates to \w+ are forbidden`)

// isImmutable reports whether err says that a field cannot be changed once the
// object is there.
func isImmutable(err error) bool {
	return apierrors.IsInvalid(err) && fixed.MatchString(err.Error())
}

// onlyImmutable reports whether err says nothing else.
func onlyImmutable(err error) bool {
	var status apierrors.APIStatus
	if !isImmutable(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return !slices.ContainsFunc(status.Status().Details.Causes, func(cause metav1.StatusCause) bool { return !fixed.MatchString(cause.Message) })
}
