package tag

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
)

// validTag is what registries take
// (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests).
var validTag = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$`) })

// Destination is a place that an image goes to.
type Destination struct {
	URL string // as the user spells it, with its tag
	Tag name.Tag
}

// Repository are the variables that say what an image is called, as skaffold
// has them: of registry.example/team/app:v1, IMAGE_REPO is registry.example/team
// and IMAGE_NAME is app.
func Repository(image string) Variables {
	repository := WithoutTag(image)
	dir, base := path.Split(repository)
	return Variables{"IMAGE_REPO": Literal(strings.TrimSuffix(dir, "/")), "IMAGE_NAME": Literal(base)}
}

// Tags are the tags that the param tags asks for: each entry is a tag, a policy
// or a template. One that comes twice is there once.
func Tags(image string, entries []string, s Source, variables Variables) ([]string, error) {
	var tags []string
	seen := map[string]bool{}
	for _, entry := range entries {
		tag, is, err := applyPolicy(entry, s)
		if !is {
			tag, err = Expand(entry, variables.With(Repository(image)))
		}
		if err == nil && !validTag().MatchString(tag) {
			err = fmt.Errorf("%q is no tag: it takes letters, digits, _, . and -, and at most 128", tag)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", entry, err)
		}
		if entry == "sha256" && hasTag(image) {
			continue // "latest" is for an image without a tag
		}
		if !seen[tag] {
			seen[tag] = true
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// Destinations are all places for an image, the first of which is what the
// image is called: the param image with its own tag, with each of tags, and
// what the param destinations adds. Where there is no tag, it is latest.
func Destinations(image string, tags, more []string) ([]Destination, error) {
	var images []string
	if hasTag(image) || len(tags) == 0 {
		images = append(images, image)
	}
	for _, tag := range tags {
		images = append(images, WithoutTag(image)+":"+tag)
	}
	var all []Destination
	seen := map[string]bool{}
	for i, url := range append(images, more...) {
		param := "image"
		if i >= len(images) {
			param = "destinations"
		}
		if strings.Contains(url, "@") {
			return nil, fmt.Errorf("param %s: %s has a digest, which only the build decides; give a repository with or without a tag", param, url)
		}
		tag, err := name.NewTag(url)
		if err != nil {
			return nil, fmt.Errorf("param %s: %w", param, err)
		}
		if !hasTag(url) {
			url += ":" + tag.TagStr()
		}
		if !seen[tag.Name()] {
			seen[tag.Name()] = true
			all = append(all, Destination{URL: url, Tag: tag})
		}
	}
	return all, nil
}

// URLs are what the destinations are called, as a JSON array.
func URLs(all []Destination) string {
	urls := make([]string, len(all))
	for i, one := range all {
		urls[i] = one.URL
	}
	encoded, err := json.Marshal(urls)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(encoded)
}

// Immutable are those of all whose tag one of the patterns matches, as
// [path.Match] has it.
func Immutable(all []Destination, patterns []string) ([]name.Tag, error) {
	var fixed []name.Tag
	for _, one := range all {
		for _, pattern := range patterns {
			matches, err := path.Match(pattern, one.Tag.TagStr())
			if err != nil {
				return nil, fmt.Errorf("%q is no pattern: %w", pattern, err)
			}
			if matches {
				fixed = append(fixed, one.Tag)
				break
			}
		}
	}
	return fixed, nil
}

func hasTag(image string) bool { return strings.Contains(path.Base(image), ":") }

// WithoutTag is the repository of an image.
func WithoutTag(image string) string {
	if hasTag(image) {
		return image[:strings.LastIndex(image, ":")]
	}
	return image
}
