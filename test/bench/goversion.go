package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	containers "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// goVersions are the Gos that a base image can change to, one for each run: no
// cache has seen them. They come as Go's own toolchain modules.
var goVersions = []string{"1.26.7", "1.26.5"}

// toolchain is the folder of a version of Go in the module cache, downloaded if
// it is not there.
func toolchain(ctx context.Context, version string) (string, error) {
	module := fmt.Sprintf("golang.org/toolchain@v0.0.1-go%s.%s-%s", version, runtime.GOOS, runtime.GOARCH)
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", module).Output()
	if err != nil {
		return "", fmt.Errorf("download Go %s: %w: %s", version, err, out)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		return "", err
	}
	return found.Dir, nil
}

// golang is the image of a version of Go; the usual one if it is empty.
func golang(version string) string {
	if version == "" {
		return "library/golang:alpine"
	}
	return "library/golang:" + version + "-alpine"
}

// pushGolang makes the image of a version: the usual one with its layer of Go,
// the last but one, replaced.
func (s *site) pushGolang(ctx context.Context, version string) error {
	ref, err := s.inRegistry(golang(version))
	if err != nil {
		return err
	}
	if exists(ctx, ref) {
		return nil
	}
	dir, err := toolchain(ctx, version)
	if err != nil {
		return err
	}
	files := map[string]string{}
	if err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		inside, err := filepath.Rel(dir, file)
		// A module has no other go.mod in it: these are named _go.mod.
		if path.Base(inside) == "_go.mod" {
			inside = strings.TrimSuffix(inside, "_go.mod") + "go.mod"
		}
		files["/usr/local/go/"+inside] = file
		return err
	}); err != nil {
		return err
	}
	other, err := layerOf(files)
	if err != nil {
		return err
	}
	usual, err := s.pull(ctx, golang(""))
	if err != nil {
		return err
	}
	img, err := replaceGo(usual, other, version)
	if err != nil {
		return err
	}
	return s.push(ctx, golang(version), img)
}

// replaceGo is an image with another Go in it.
func replaceGo(usual containers.Image, other containers.Layer, version string) (containers.Image, error) {
	layers, err := usual.Layers()
	if err != nil {
		return nil, err
	}
	config, err := usual.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers[len(layers)-2] = other
	config = config.DeepCopy()
	config.RootFS.DiffIDs, config.History = nil, nil
	for i, variable := range config.Config.Env {
		if strings.HasPrefix(variable, "GOLANG_VERSION=") {
			config.Config.Env[i] = "GOLANG_VERSION=" + version
		}
	}
	img, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, layers...)
}
