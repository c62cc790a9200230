// Package artifact reads what a list of images to build says of one: a Task
// that a matrix runs for each gets it as one string.
package artifact

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Artifact is an image to build. What is "" is as the Task's own params say.
type Artifact struct {
	Name       string // in the manifests; "" if they have it as it is pushed
	Image      string
	Context    string
	Dockerfile string
	Target     string
	BuildArgs  []string // more of them, each KEY=VALUE
}

// Parse reads words of the form KEY=VALUE with white space between them:
//
//	name=api image=registry.example.com/api context=services/api build-arg=VERSION=1
//
// Of these only build-arg may be there more than once. The error names the word
// that is wrong.
func Parse(text string) (*Artifact, error) {
	var a Artifact
	single := map[string]*string{"name": &a.Name, "image": &a.Image, "context": &a.Context, "dockerfile": &a.Dockerfile, "target": &a.Target}
	for _, word := range strings.Fields(text) {
		key, value, ok := strings.Cut(word, "=")
		to := single[key]
		switch {
		case !ok || value == "" || to == nil && key != "build-arg":
			return nil, fmt.Errorf("param artifact: %q is none of name=, image=, context=, dockerfile=, target= and build-arg= with a value", word)
		case to == nil:
			a.BuildArgs = append(a.BuildArgs, value)
		case *to != "":
			return nil, fmt.Errorf("param artifact: %s is there twice", key)
		default:
			*to = value
		}
	}
	return &a, nil
}

// Over puts the artifact in the place of a Task's own params.
func (a *Artifact) Over(image, context, dockerfile, target *string, buildArgs *[]string) {
	*image = cmp.Or(a.Image, *image)
	*context = cmp.Or(a.Context, *context)
	*dockerfile = cmp.Or(a.Dockerfile, *dockerfile)
	*target = cmp.Or(a.Target, *target)
	*buildArgs = slices.Concat(*buildArgs, a.BuildArgs)
}
