package main

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/cluster/parts"
)

//go:embed manifests/catalog-kaniko.yaml
var catalogTask string

// catalogKaniko is the catalog's kaniko task, with or without kaniko's cache of
// layers. Tekton mounts something at /workspace, where the seed's Dockerfile
// builds, so its users have to write another one: here it builds in /src.
func catalogKaniko(layers bool) pipeline {
	return pipeline{
		task: catalogTask,
		step: "step-build-and-push",
		source: func(s *site) error {
			content, err := os.ReadFile(filepath.Join(s.repo.Dir(), "Dockerfile"))
			if err != nil {
				return err
			}
			return s.repo.Write("Dockerfile.catalog", strings.ReplaceAll(string(content), "/workspace", "/src"))
		},
		params: func(s *site) map[string]any {
			extra := []string{"--build-arg=GOPROXY=" + s.GoProxy, "--insecure-registry=" + s.InsecureRegistry}
			for _, m := range s.RegistryMaps {
				extra = append(extra, "--registry-map="+m)
			}
			if layers {
				extra = append(extra, "--cache=true", fmt.Sprintf("--cache-repo=%s/cache-%d", s.image(s.Registry), s.state.Generation))
			}
			return map[string]any{
				"IMAGE": s.image(s.Registry), "DOCKERFILE": "./Dockerfile.catalog", "EXTRA_ARGS": extra, "BUILDER_IMAGE": cluster.KanikoImage,
			}
		},
		image: func(s *site) string { return s.image(s.Registry) + "@$(tasks.build.results.IMAGE_DIGEST)" },
	}
}

//go:embed manifests/ko.yaml
var koTask string

// Images that the benchmarks make, in the cluster's registry.
const (
	staticImage = "distroless/static:latest"
	koImage     = "bench/ko-step" // with the version of Go as its tag
	floorImage  = "bench/floor-step:latest"
)

// ko and floor reach the registry by its address, which they know by itself to
// have no TLS.

// ko builds without a Dockerfile: what the app's has beside the program is in
// the base image.
var ko = pipeline{
	task:   koTask,
	step:   "step-build",
	caches: true,
	images: func(ctx context.Context, s *site) error {
		dir, err := parts.Dir("ko")
		if err != nil {
			return err
		}
		for _, version := range s.gos {
			if err := s.addFiles(ctx, golang(version), koStep(version), map[string]string{"/usr/local/bin/ko": filepath.Join(dir, "ko")}); err != nil {
				return err
			}
		}
		files := map[string]string{}
		for inside, file := range s.app.files {
			files[inside] = filepath.Join(cluster.Root(), s.app.dir, file)
		}
		return s.addFiles(ctx, staticImage, koBase(s), files)
	},
	source: func(s *site) error {
		return s.repo.Write(".ko.yaml", "defaultBaseImage: "+registryHost+"/"+koBase(s)+"\ndefaultLdflags: [-s, -w]\n")
	},
	params: func(s *site) map[string]any {
		return map[string]any{"IMAGE": s.image(registryHost), "GOPROXY": s.GoProxy, "KO_IMAGE": s.Registry + "/" + koStep(s.built.Go)}
	},
	image: func(*site) string { return "$(tasks.build.results.IMAGE_REF)" },
}

// koStep is ko's image with a version of Go.
func koStep(version string) string {
	if version == "" {
		version = "usual"
	}
	return koImage + ":" + version
}

func koBase(s *site) string { return "bench/ko-base-" + s.size + ":latest" }

//go:embed manifests/floor.yaml
var floorTask string

var floor = pipeline{
	task:   floorTask,
	step:   "step-build",
	caches: true,
	images: func(ctx context.Context, s *site) error {
		program := filepath.Join(cluster.Root(), "build", "bench", "floor")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./test/bench/floor")
		build.Dir, build.Env = cluster.Root(), append(os.Environ(), "CGO_ENABLED=0", "GOPROXY=off")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build floor: %w: %s", err, out)
		}
		return s.addFiles(ctx, golang(""), floorImage, map[string]string{"/usr/local/bin/floor": program})
	},
	params: func(s *site) map[string]any {
		files := []string{}
		for _, inside := range slices.Sorted(maps.Keys(s.app.files)) {
			files = append(files, inside+"="+s.app.files[inside])
		}
		return map[string]any{
			"IMAGE": s.image(registryHost), "BASE": registryHost + "/" + staticImage, "PROGRAM": "/bin/" + s.app.name,
			"FILES": files, "GOPROXY": s.GoProxy, "FLOOR_IMAGE": s.Registry + "/" + floorImage,
		}
	},
	image: func(*site) string { return "$(tasks.build.results.IMAGE_REF)" },
}
