package deploy

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// rendering is what an overlay renders to.
type rendering struct {
	objects []*unstructured.Unstructured
	notes   []string // what whoever reads the log should know
}

// render is what `kustomize build` makes of an overlay once `kustomize edit`
// has set images in it, and namespace unless that is "". So kustomize's rules
// hold for both, and the overlay's own configurations (for an image in a field
// of a custom resource). The source itself stays as it is. fields are more
// fields that may hold an image.
//
// An image that a manifest pins to a digest itself, or the images of a
// kustomization do, is left as it is, and noted.
//
// Nothing is fetched or executed, and nothing is read from outside dir, the
// source workspace; a file may come from anywhere inside it
// (kustomize's --load-restrictor=LoadRestrictionsNone).
// The objects come in kustomize's legacy order: what others need comes first.
//
// Several overlays are rendered each by itself, one after the other.
func render(dir string, overlays []string, images []image, fields []types.FieldSpec, namespace string) (_ *rendering, err error) {
	src, err := openSource(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	made := &rendering{}
	from := map[string]string{} // which overlay has an object, by what the object is
	left := maxRendered
	for _, overlay := range overlays {
		objects, size, err := src.render(overlay, images, fields, namespace, left)
		if err != nil {
			return nil, err
		}
		left -= size
		if src.pins && len(images) > 0 {
			plain, _, err := src.render(overlay, nil, nil, namespace, maxRendered)
			if err != nil {
				return nil, err
			}
			made.notes = append(made.notes, restorePinned(images, plain, objects)...)
		}
		for _, object := range objects {
			if isInventory(object) {
				return nil, fmt.Errorf("overlay %s has %s: a ConfigMap whose name begins with %s is the inventory of a deploy, which writes it by itself; take it out, or give it another name", overlay, located(object), inventoryPrefix)
			}
			id := object.GroupVersionKind().GroupKind().String() + " " + object.GetNamespace() + " " + object.GetName()
			if other, has := from[id]; has {
				return nil, fmt.Errorf("overlays %s and %s both have %s: leave one of them out, or give it another name or namespace", other, overlay, called(object))
			}
			from[id] = overlay
		}
		made.objects = append(made.objects, objects...)
	}
	return made, checkUsed(images, made.objects)
}

// render renders one overlay, of at most room bytes of JSON, and returns how
// many they are.
func (s *source) render(overlay string, images []image, fields []types.FieldSpec, namespace string, room int) (objects []*unstructured.Unstructured, size int, err error) {
	if remote(overlay) || !filepath.IsLocal(overlay) {
		return nil, 0, fmt.Errorf("overlay %s: give a folder of the source, relative to its root", overlay)
	}
	real, info, err := s.resolve(filepath.Join(s.dir, overlay))
	if err != nil {
		return nil, 0, fmt.Errorf("overlay %w", err)
	}
	if !info.IsDir() {
		return nil, 0, fmt.Errorf("overlay %s is a file; give the folder that holds its kustomization.yaml", overlay)
	}
	s.amended = ""
	file, k, err := s.confine(real)
	if err != nil {
		return nil, 0, fmt.Errorf("overlay %s: %w", overlay, err)
	}
	if s.content, err = s.amend(file, k, images, fields, namespace); err != nil {
		return nil, 0, fmt.Errorf("overlay %s: %w", overlay, err)
	}
	s.amended = file

	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	options.LoadRestrictions = types.LoadRestrictionsNone
	rendered, err := krusty.MakeKustomizer(options).Run(s, real)
	if err != nil {
		return nil, 0, fmt.Errorf("overlay %s: %s", overlay, s.trim(err))
	}
	for _, resource := range rendered.Resources() {
		content, err := resource.MarshalJSON()
		if err != nil {
			return nil, 0, fmt.Errorf("overlay %s: %s: %w", overlay, resource.CurId(), err)
		}
		if size += len(content); size > room {
			return nil, 0, fmt.Errorf("overlay %s renders to more than %d MiB", overlay, maxRendered>>20)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(content); err != nil {
			return nil, 0, fmt.Errorf("overlay %s: %s: %w", overlay, resource.CurId(), err)
		}
		objects = append(objects, object)
	}
	if len(objects) == 0 {
		return nil, 0, fmt.Errorf("overlay %s renders no object; list its manifests under resources", overlay)
	}
	return objects, size, nil
}

// amend is the content of a kustomization file with images and namespace set.
func (s *source) amend(file string, k *types.Kustomization, images []image, more []types.FieldSpec, namespace string) ([]byte, error) {
	content, err := s.ReadFile(file)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	if err := yaml.Unmarshal(content, &fields); err != nil {
		return nil, err
	}
	all := k.Images // the overlay's own come first: they may rename to what is set
	transformers := k.Transformers
	for _, img := range images {
		all = append(all, img.kustomize())
		set, err := setInFields(img, append(more, imageFields...))
		if err != nil {
			return nil, err
		}
		transformers = append(transformers, set)
	}
	set := map[string]any{
		"images":      all,
		"imageTags":   nil, // the old name of images, and among k.Images
		"sortOptions": nil, // the order is the deploy's
	}
	if len(transformers) > 0 {
		set["transformers"] = transformers
	}
	if namespace != "" {
		set["namespace"] = namespace
	}
	for field, value := range set {
		maps.DeleteFunc(fields, func(have string, _ any) bool { return strings.EqualFold(have, field) }) // as kustomize reads them
		if value != nil {
			fields[field] = value
		}
	}
	return yaml.Marshal(fields)
}
