package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/cluster/parts"
)

// skaffold runs the real program with the seed's skaffold.yaml.
type skaffold struct {
	final bool // the last one; the first had no proxy and no caches
	fresh bool // as whoever has no home of an earlier run, such as a job in CI
}

// registryHost is the registry by its address: skaffold asks it from outside of
// pods, where the names of services mean nothing.
const registryHost = cluster.NodeIP + ":5000"

// Images that skaffold starts pods of, under the names that it knows.
var skaffoldImages = map[string]string{
	"osscontainertools/kaniko:v1.27.5": "kaniko-project/executor:latest",
	"library/busybox:latest":           "k8s-skaffold/skaffold-helpers/busybox:latest",
}

func (skaffold) install(ctx context.Context, s *site) error {
	if err := s.Install(ctx, s.namespace, s.resolved); err != nil {
		return err
	}
	for from, to := range skaffoldImages {
		if err := s.copyImage(ctx, from, to); err != nil {
			return err
		}
	}
	// The registry wants no login, but skaffold wants the secret.
	return s.Apply(ctx, s.namespace, `{apiVersion: v1, kind: Secret, metadata: {name: kaniko-secret}, stringData: {kaniko-secret: "{}"}}`)
}

func (skaffold) forget(_ context.Context, s *site) error { return emptyFolder(s.caches()) }

func (k skaffold) run(ctx context.Context, s *site, seen *observer) (outcome, error) {
	dir, err := parts.Dir("skaffold")
	if err != nil {
		return outcome{}, err
	}
	if err := k.write(s); err != nil {
		return outcome{}, err
	}
	if _, err := s.repo.Commit(ctx, "bench"); err != nil {
		return outcome{}, err
	}
	// Skaffold's own cache of what it built is a file of whoever runs it.
	home := filepath.Join(s.caches(), "home")
	if k.fresh {
		if err := emptyFolder(home); err != nil {
			return outcome{}, err
		}
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return outcome{}, err
	}
	settings := filepath.Join(home, "settings")
	if err := os.WriteFile(settings, []byte("global:\n  collect-metrics: false\n  survey:\n    disable-prompt: true\n"), 0o644); err != nil {
		return outcome{}, err
	}
	// It wants a kustomize program, or a kubectl that knows its version in
	// another way than the cluster's does.
	bin := filepath.Join(home, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return outcome{}, err
	}
	if err := os.WriteFile(filepath.Join(bin, "kustomize"), []byte("#!/bin/sh\nshift # build\nexec kubectl kustomize \"$@\"\n"), 0o755); err != nil {
		return outcome{}, err
	}
	log, err := os.Create(filepath.Join(s.logs, "run.log"))
	if err != nil {
		return outcome{}, err
	}
	defer log.Close()

	start := time.Now()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "skaffold"), "run", "--config="+settings, "--interactive=false", "--update-check=false", "--color=0")
	cmd.Dir = s.repo.Dir()
	cmd.Env = append(os.Environ(), "HOME="+home, "PATH="+bin+":"+filepath.Join(cluster.StateDir, "bin")+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return outcome{}, fmt.Errorf("skaffold run: %w; see %s", err, log.Name())
	}
	end := time.Now()
	done := outcome{total: end.Sub(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if first, last, err := seen.spoke("kaniko"); err == nil {
		done.build = last.Sub(first)
		done.phases = []phase{
			{"upload and pod", seconds(first.Sub(start))},
			{"kaniko", seconds(last.Sub(first))},
			{"deploy", seconds(end.Sub(last))},
		}
	} else if output, err := os.ReadFile(log.Name()); err != nil || !bytes.Contains(output, []byte("Found")) {
		// Only what skaffold found in the registry needs no container.
		return outcome{}, fmt.Errorf("skaffold run: no container built, and none was spared; see %s", log.Name())
	}
	return done, nil
}

// write makes the files that skaffold needs in the source.
func (k skaffold) write(s *site) error {
	example, err := os.ReadFile(filepath.Join(cluster.Root(), "examples", "feed-agg", "skaffold.yaml"))
	if err != nil {
		return err
	}
	kubeconfig, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config, err := k.config(example, kubeconfig.CurrentContext, s)
	if err != nil {
		return err
	}
	if err := s.repo.Write("skaffold.yaml", string(config)); err != nil {
		return err
	}
	// Skaffold sets the image by its whole name.
	if err := s.repo.Replace(overlay+"/kustomization.yaml", "resources:", fmt.Sprintf("images: [{name: %s, newName: %s}]\nresources:", s.app.name, s.image(registryHost))); err != nil {
		return err
	}
	// It asks for base images by itself, before kaniko does, and has no mirrors
	// for that: they get the names that they have in the registry here.
	dockerfile := "Dockerfile"
	if !k.final {
		dockerfile = "Dockerfile.baseline"
	}
	if err := errors.Join(
		s.repo.Replace(dockerfile, "FROM golang:", "FROM "+registryHost+"/library/golang:"),
		s.repo.Replace(dockerfile, "FROM gcr.io/", "FROM "+registryHost+"/"),
	); err != nil || k.final {
		return err
	}
	// Its modules come from the proxy, as there is no way out.
	return s.repo.Replace(dockerfile, "ENV CGO_ENABLED=0", "ENV CGO_ENABLED=0 GOPROXY="+s.GoProxy)
}

// config is the seed's skaffold.yaml with the names of this cluster.
func (k skaffold) config(example []byte, kubeContext string, s *site) ([]byte, error) {
	var c struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Build      struct {
			InsecureRegistries []string `json:"insecureRegistries"`
			Artifacts          []struct {
				Image  string         `json:"image"`
				Kaniko map[string]any `json:"kaniko"`
			} `json:"artifacts"`
			Cluster map[string]any `json:"cluster"`
		} `json:"build"`
		Deploy map[string]any `json:"deploy"`
	}
	if err := yaml.UnmarshalStrict(example, &c); err != nil {
		return nil, err
	}
	c.Metadata["name"] = s.app.name
	c.Build.InsecureRegistries = []string{registryHost}
	artifact := &c.Build.Artifacts[0]
	artifact.Image = s.image(registryHost)
	artifact.Kaniko["registryMirror"] = registryHost
	artifact.Kaniko["insecureRegistry"] = []string{registryHost}
	c.Build.Cluster["namespace"] = s.namespace
	if k.final {
		artifact.Kaniko["buildArgs"].(map[string]any)["GOPROXY"] = s.GoProxy
		for _, volume := range c.Build.Cluster["volumes"].([]any) {
			path := volume.(map[string]any)["hostPath"].(map[string]any)
			path["path"] = filepath.Join(s.caches(), filepath.Base(path["path"].(string)))
		}
	} else {
		artifact.Kaniko["dockerfile"] = "Dockerfile.baseline"
		delete(artifact.Kaniko, "buildArgs")
		delete(artifact.Kaniko, "volumeMounts")
		delete(c.Build.Cluster, "volumes")
	}
	c.Deploy["kubeContext"] = kubeContext
	c.Deploy["kustomize"] = map[string]any{"paths": []string{overlay}}
	return yaml.Marshal(c)
}
