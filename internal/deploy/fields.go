package deploy

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"
)

// imageFields are fields that hold images and that kustomize does not know by
// default. It does know the containers and initContainers of any kind, at any
// depth: those of a Knative Service, a Rollout or a CronJob among them.
var imageFields = []types.FieldSpec{
	{Gvk: resid.Gvk{Kind: "Pod"}, Path: "spec/volumes/image/reference"},
	{Gvk: resid.Gvk{Kind: "CronJob"}, Path: "spec/jobTemplate/spec/template/spec/volumes/image/reference"},
	{Path: "spec/template/spec/volumes/image/reference"},
	{Gvk: resid.Gvk{Group: "tekton.dev", Kind: "Task"}, Path: "spec/steps/image"},
	{Gvk: resid.Gvk{Group: "tekton.dev", Kind: "Task"}, Path: "spec/sidecars/image"},
	{Gvk: resid.Gvk{Group: "argoproj.io"}, Path: "spec/templates/container/image"},
	{Gvk: resid.Gvk{Group: "argoproj.io"}, Path: "spec/templates/script/image"},
}

// parseImageFields reads the array param image-fields: "spec/app/image" in any
// kind, or "App.example.com:spec/app/image" in one.
func parseImageFields(params []string) ([]types.FieldSpec, error) {
	var fields []types.FieldSpec
	for _, param := range params {
		kind, path, ok := strings.Cut(param, ":")
		if !ok {
			kind, path = "", param
		}
		if path == "" || strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
			return nil, fmt.Errorf("image field %q: give it as [KIND[.GROUP]:]path/to/field", param)
		}
		name, group, _ := strings.Cut(kind, ".")
		fields = append(fields, types.FieldSpec{Gvk: resid.Gvk{Group: group, Kind: name}, Path: path})
	}
	return fields, nil
}

// setInFields is the configuration of kustomize's own image transformer that
// sets img in fields.
func setInFields(img image, fields []types.FieldSpec) (string, error) {
	config, err := yaml.Marshal(map[string]any{
		"apiVersion": konfig.BuiltinPluginApiVersion,
		"kind":       "ImageTagTransformer",
		"metadata":   map[string]any{"name": "slipway:" + img.name}, // unique among plugins
		"imageTag":   img.kustomize(),
		"fieldSpecs": fields,
	})
	return string(config), err
}

// restorePinned puts back the images that the manifests pin to a digest of
// their own: whoever wrote it there meant that one. plain are the objects as
// they render without images set.
func restorePinned(images []image, plain, objects []*unstructured.Unstructured) (notes []string) {
	original := map[identity]*unstructured.Unstructured{}
	for _, object := range plain {
		original[identify(object)] = object
	}
	for _, object := range objects {
		was, ok := original[identify(object)]
		if !ok {
			continue
		}
		object.Object, _ = restore(images, was.Object, object.Object, func(pinned string) {
			note := fmt.Sprintf("%s keeps %s, which its manifest pins", called(object), pinned)
			if !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}).(map[string]any)
	}
	return notes
}

// restore is node with what was pins in place of images.
func restore(images []image, was, node any, note func(string)) any {
	switch node := node.(type) {
	case map[string]any:
		if was, ok := was.(map[string]any); ok {
			for field, child := range node {
				node[field] = restore(images, was[field], child, note)
			}
		}
	case []any:
		if was, ok := was.([]any); ok && len(was) == len(node) {
			for i, child := range node {
				node[i] = restore(images, was[i], child, note)
			}
		}
	case string:
		pinned, ok := was.(string)
		if !ok || pinned == node {
			return node
		}
		repository, _, digest := split(pinned)
		for _, img := range images {
			if digest != "" && repository == img.name && node == img.String() {
				note(pinned)
				return pinned
			}
		}
	}
	return node
}
