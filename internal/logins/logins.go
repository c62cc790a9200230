// Package logins hands the logins of registries from prepare to push: copies in
// memory, which are gone before push looks at anything that a RUN instruction
// could have left.
//
// What a step can read when it ends is within reach of the steps before it:
// Tekton's entrypoint reads results and artifacts then, from folders that all
// steps of a pod share, follows links there, and publishes what it finds
// (https://github.com/tektoncd/pipeline, pkg/entrypoint, readArtifacts).
package logins

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/slipway-ci/slipway/internal/step"
)

// Folder is in memory, and only the two steps see it. In it is a folder for each
// workspace that is bound.
type Folder string

// The workspaces that push has no other way to.
const (
	dockerConfig = "dockerconfig"
	certificates = "certificates"
)

// maxFile is the most bytes of a file: what Kubernetes allows for a whole secret.
const maxFile = 1 << 20

// Leave copies the files of the two workspaces; "" is one that is not bound.
func (f Folder) Leave(dockerConfigPath, certificatesPath string) error {
	for workspace, dir := range map[string]string{dockerConfig: dockerConfigPath, certificates: certificatesPath} {
		if dir == "" {
			continue
		}
		if err := f.leave(workspace, dir); err != nil {
			return fmt.Errorf("pass the workspace %s to the step push: %w", workspace, err)
		}
	}
	return nil
}

func (f Folder) leave(workspace, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return step.BadInput(err)
	}
	to := filepath.Join(string(f), workspace)
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	// push has another user, and deletes what is here.
	if err := os.Chmod(to, 0o777); err != nil {
		return err
	}
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		// A secret's files are links into a folder of the kubelet's.
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := step.WriteFile(filepath.Join(to, entry.Name()), content, 0o444); err != nil {
			return err
		}
	}
	return nil
}

// DockerConfig is where the files of the workspace dockerconfig are; "" if it is
// not bound.
func (f Folder) DockerConfig() string { return f.of(dockerConfig) }

// Certificates is where those of the workspace certificates are.
func (f Folder) Certificates() string { return f.of(certificates) }

func (f Folder) of(workspace string) string {
	dir := filepath.Join(string(f), workspace)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return dir
}

// Delete deletes all files; what is gone already is no error. The folders stay:
// a volume in memory has the sticky bit, and they are another user's.
func (f Folder) Delete() error {
	var errs error
	for _, workspace := range []string{dockerConfig, certificates} {
		dir := filepath.Join(string(f), workspace)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = errors.Join(errs, err)
		}
		for _, entry := range entries {
			errs = errors.Join(errs, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return errs
}
