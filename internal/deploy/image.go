package deploy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/types"
)

// image is one built image and the name the manifests call it by.
type image struct {
	name       string // as in the manifests, without tag and digest
	repository string
	tag        string // "" for none
	digest     string // sha256:…
}

// parseImage reads "registry/repo[:tag]@sha256:…", which replaces every image
// of that repository, or "name=registry/repo[:tag]@sha256:…", which replaces
// every image called name. An empty name counts as none given.
func parseImage(param string) (image, error) {
	called, reference, ok := strings.Cut(param, "=")
	if !ok {
		called, reference = "", param
	}
	repository, tag, digest := split(reference)
	if digest == "" {
		return image{}, fmt.Errorf("image %q has no digest; give it as [name=]registry/repository[:tag]@sha256:…", param)
	}
	if _, err := name.NewDigest(reference); err != nil {
		return image{}, fmt.Errorf("image %q: %w; give it as [name=]registry/repository[:tag]@sha256:…", param, err)
	}
	if called == "" {
		called = repository
	} else if _, err := name.NewRepository(called); err != nil {
		return image{}, fmt.Errorf("image %q: name %q: %w", param, called, err)
	}
	return image{name: called, repository: repository, tag: tag, digest: digest}, nil
}

// split takes an image reference apart as it is written: nothing is added.
func split(reference string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(reference, "@")
	if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:colon], repository[colon+1:]
	}
	return repository, tag, digest
}

func parseImages(params []string) ([]image, error) {
	var images []image
	for _, param := range params {
		img, err := parseImage(param)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(images, func(other image) bool { return other.name == img.name }) {
			return nil, fmt.Errorf("image %q is given twice; give each name once", img.name)
		}
		images = append(images, img)
	}
	return images, nil
}

func (i image) String() string {
	if i.tag != "" {
		return i.repository + ":" + i.tag + "@" + i.digest
	}
	return i.repository + "@" + i.digest
}

// kustomize is the entry of a kustomization's images that sets i.
func (i image) kustomize() types.Image {
	return types.Image{Name: i.name, NewName: i.repository, NewTag: i.tag, Digest: i.digest}
}

// checkUsed refuses an image that ended up in no object, or not everywhere it
// belongs: a deploy that changes nothing must not look like one that worked.
func checkUsed(images []image, objects []*unstructured.Unstructured) error {
	var seen []string
	for _, object := range objects {
		seen = containerImages(object.Object, seen)
	}
	slices.Sort(seen)
	seen = slices.Compact(seen)
	for _, img := range images {
		want := img.String()
		for _, ref := range seen {
			if repository, _, digest := split(ref); repository == img.name && digest == "" && ref != want {
				return fmt.Errorf("image %s is still %s in what the overlay renders; set it before the overlay's own transformers do", img.name, ref)
			}
		}
		if slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return contains(o.Object, want) }) {
			continue
		}
		has := "no image at all"
		if len(seen) > 0 {
			has = strings.Join(seen, ", ")
		}
		return fmt.Errorf("image %s is used in no manifest of the overlay, which has %s; "+
			"use that name in the manifests, or give the image as <name in the manifests>=%s", img.name, has, want)
	}
	return nil
}

// contains reports whether text is one of node's values, at any depth.
func contains(node any, text string) bool {
	switch node := node.(type) {
	case map[string]any:
		for _, child := range node {
			if contains(child, text) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(node, func(child any) bool { return contains(child, text) })
	case string:
		return node == text
	}
	return false
}

// containerImages appends the images of all containers in node, at any depth:
// a custom resource may hold a pod template anywhere.
func containerImages(node any, seen []string) []string {
	switch node := node.(type) {
	case map[string]any:
		for field, child := range node {
			if list, ok := child.([]any); ok && (field == "containers" || field == "initContainers") {
				for _, container := range list {
					if c, ok := container.(map[string]any); ok {
						if ref, ok := c["image"].(string); ok {
							seen = append(seen, ref)
						}
					}
				}
			}
			seen = containerImages(child, seen)
		}
	case []any:
		for _, child := range node {
			seen = containerImages(child, seen)
		}
	}
	return seen
}
