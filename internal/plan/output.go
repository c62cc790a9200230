package plan

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Output is where the step push leaves the image besides the registry. prepare
// checks it too, so that nothing is built in vain.
type Output struct {
	Workspace string // a folder, "" where none is bound
	Layout    string // in the workspace, "" for none
	Tar       string // in the workspace, "" for none
}

// Check finds what is wrong with the params; push is whether the image is
// pushed too.
func (o Output) Check(push bool) error {
	for param, path := range map[string]string{"oci-layout-path": o.Layout, "tar-path": o.Tar} {
		switch {
		case path == "":
		case o.Workspace == "":
			return fmt.Errorf("param %s: the workspace output, where the image would go, is not bound", param)
		case !filepath.IsLocal(path) || filepath.Clean(path) == ".":
			return fmt.Errorf("param %s: %s is no path inside the workspace output", param, path)
		}
	}
	if !push && o.Layout == "" && o.Tar == "" {
		return errors.New(`param push: with "false" nothing is left of the build; set the param oci-layout-path or tar-path too`)
	}
	return nil
}
