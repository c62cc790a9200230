package deploy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const longestName = 63 - len(inventoryPrefix)

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// name is the deploy's name, and whether the user gave it. Without one it is
// that of the first image's repository, which is an app's own.
func (c *config) name(images []image) (name string, given bool, err error) {
	if c.Name != "" {
		if problems := validation.IsDNS1123Label(c.Name); len(problems) > 0 || len(c.Name) > longestName {
			return "", false, fmt.Errorf("name %q: give at most %d lowercase letters, digits and dashes", c.Name, longestName)
		}
		return c.Name, true, nil
	}
	if len(images) == 0 {
		return "", false, errors.New("the deploy has no image to be named after: give it a name of its own with the param name")
	}
	repository := images[0].repository
	if _, path, ok := strings.Cut(repository, "/"); ok {
		repository = path
	}
	name = strings.Trim(notInName.ReplaceAllString(strings.ToLower(repository), "-"), "-")
	return strings.TrimRight(name[:min(len(name), longestName)], "-"), false, nil
}
