package prepare

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-ci/slipway/internal/step"
)

// secrets are the files of the workspace secrets, by their names: the ids by
// which RUN --mount=type=secret asks for them.
type secrets map[string]string

// readSecrets finds the files of dir; "" is none.
func readSecrets(dir string) (secrets, error) {
	found := secrets{}
	if dir == "" {
		return found, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, step.BadInput(fmt.Errorf("workspace secrets: %w", err))
	}
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		// A secret's files are symbolic links into a folder of the kubelet's.
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || strings.Contains(entry.Name(), ",") {
			continue
		}
		found[entry.Name()] = file
	}
	return found, nil
}

// leave copies those with the given ids, and no other, to where the build step
// reads them. Every RUN of the build can read them there.
func (s secrets) leave(dir string, ids []string) error {
	for _, id := range ids {
		content, err := os.ReadFile(s[id])
		if err != nil {
			return step.BadInput(fmt.Errorf("workspace secrets: %w", err))
		}
		if err := step.WriteFile(filepath.Join(dir, id), content, fs.FileMode(0o444)); err != nil {
			return fmt.Errorf("pass the secret %s to the build: %w", id, err)
		}
	}
	return nil
}

// annotatedSecrets is where Tekton mounts the secrets that are annotated on the
// run's service account, in every step.
const annotatedSecrets = "/tekton/creds-secrets/"

// tellAnnotated says what no step of ours can keep from RUN.
func tellAnnotated(mounts []string, log *log) {
	for _, mount := range mounts {
		if name, ok := strings.CutPrefix(mount, annotatedSecrets); ok {
			log.printf("the secret %s is annotated on the run's service account, where every RUN can read it: take it away there, and bind it to the workspace dockerconfig", name)
		}
	}
}

// tellUnsealed says what RUN can do with the folders that results are read from
// (internal/logins), where the workspaces are not bound that keep it from them.
func tellUnsealed(c *Config, log *log) {
	if c.SealedResults != "" && c.SealedArtifacts != "" {
		return
	}
	what := "what this TaskRun says of its image"
	if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")+os.Getenv("AZURE_FEDERATED_TOKEN_FILE") != "" {
		what += ", and have the token of the pod's cloud identity published there"
	}
	log.printf("results: a RUN instruction could write %s: bind the workspaces sealed-results and sealed-artifacts, to an emptyDir each", what)
}

// secretFlags tell kaniko where the secrets are.
func secretFlags(dir string, ids []string) []string {
	var flags []string
	for _, id := range ids {
		flags = append(flags, "id="+id+",src="+filepath.Join(dir, id))
	}
	return flags
}
