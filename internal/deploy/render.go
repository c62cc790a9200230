package deploy

import (
	"errors"
	"fmt"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// render is what `kustomize build` makes of an overlay with images, and
// namespace unless it is "", set in it. Both are set by a kustomization laid
// over the overlay, so that kustomize's rules for them hold, the overlay's own
// field specifications included (for an image in a custom resource).
//
// Nothing is fetched or executed, and nothing is read from outside dir, the
// source workspace; a file may come from anywhere inside it
// (kustomize's --load-restrictor=LoadRestrictionsNone).
// The objects come in kustomize's legacy order: what others need comes first.
func render(dir, overlay string, images []image, namespace string) ([]*unstructured.Unstructured, error) {
	src, err := openSource(dir)
	if err != nil {
		return nil, err
	}
	objects, err := src.render(overlay, images, namespace)
	return objects, errors.Join(err, src.Close())
}

func (s *source) render(overlay string, images []image, namespace string) ([]*unstructured.Unstructured, error) {
	if remote(overlay) || !filepath.IsLocal(overlay) {
		return nil, fmt.Errorf("overlay %s: give a folder of the source, relative to its root", overlay)
	}
	real, info, err := s.resolve(filepath.Join(s.dir, overlay))
	if err != nil {
		return nil, fmt.Errorf("overlay %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("overlay %s is a file; give the folder that holds its kustomization.yaml", overlay)
	}
	k, err := s.confine(real)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", overlay, err)
	}

	up, err := filepath.Rel(topDir, real)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", overlay, err)
	}
	top := types.Kustomization{
		Resources:     []string{up},
		Namespace:     namespace,
		BuildMetadata: k.BuildMetadata, // kustomize heeds only the topmost's
	}
	for _, img := range images {
		top.Images = append(top.Images, img.kustomize())
	}
	if s.top, err = yaml.Marshal(top); err != nil {
		return nil, fmt.Errorf("overlay %s: %w", overlay, err)
	}

	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	options.LoadRestrictions = types.LoadRestrictionsNone
	rendered, err := krusty.MakeKustomizer(options).Run(s, topDir)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %s", overlay, s.trim(err.Error()))
	}
	var objects []*unstructured.Unstructured
	for _, resource := range rendered.Resources() {
		content, err := resource.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("overlay %s: %s: %w", overlay, resource.CurId(), err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(content); err != nil {
			return nil, fmt.Errorf("overlay %s: %s: %w", overlay, resource.CurId(), err)
		}
		objects = append(objects, object)
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("overlay %s renders no object; list its manifests under resources", overlay)
	}
	return objects, checkUsed(images, objects)
}
