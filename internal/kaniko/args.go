// Package kaniko is what Slipway knows about kaniko's executor: its arguments,
// and how to run it inside its own image.
package kaniko

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Options are what the executor is told. Its flags are described at
// https://github.com/osscontainertools/kaniko#additional-flags.
type Options struct {
	Dockerfile string   // a file
	Context    string   // a folder
	Targets    []string // stages by name, the image's first
	Layout     string   // the folder of the OCI image layout to write
	BaseImages string   // a folder as [github.com/slipway-ci/slipway/internal/gocache.BaseImages] describes it

	LayerCache string // the value of --cache-repo, "" for no layer cache
	CacheRun   bool   // it has layers of RUN

	BuildArgs   []string // "KEY=VALUE"
	Secrets     []string // "id=ID,src=FILE"
	IgnorePaths []string // neither written, scanned nor deleted

	SingleSnapshot   bool
	UseNewRun        bool
	IgnoreVarRun     bool
	SnapshotMode     string // "full", "redo" or "time"; "" is kaniko's default
	CompressionLevel string // of gzip, "1" to "9"; "" is kaniko's default
	Recompressed     bool   // new layers are compressed anew afterwards: what is fast will do
	Verbosity        string // a log level; "" is kaniko's default
	Force            bool   // where kaniko does not see that it is in a container
	LogTimestamp     bool

	ImageFSExtractRetry, ImageDownloadRetry int

	// How registries are reached. Bases come from BaseImages; this is for
	// what kaniko may still ask for, an image named in a base's ONBUILD.
	RegistryMirrors, RegistryMaps, InsecureRegistries, SkipTLSVerifyRegistries []string
	SkipDefaultRegistryFallback                                                bool

	Extra []string // more arguments, "--name" or "--name=value"
}

// planned are the flags that decide where kaniko reads and writes. The steps
// around it depend on them, so they are nobody else's to set.
var planned = []string{
	"bucket", "build-arg", "cache", "cache-copy-layers", "cache-dir", "cache-repo", "cache-run-layers", "cache-ttl",
	"cleanup", "context", "context-sub-path", "custom-platform", "customPlatform", "destination", "dockerfile", "dryrun",
	"force", "git", "kaniko-dir", "label", "no-push", "no-push-cache", "oci-layout-path", "pre-cleanup", "preserve-context", "secret",
	"reproducible", "tar-path", "tarPath", "target",
}

// refused are flags that would say what is not so.
var refused = map[string]string{
	"digest-file":                     writtenBefore,
	"image-name-with-digest-file":     writtenBefore,
	"image-name-tag-with-digest-file": writtenBefore,
	"log-format":                      "the last line of a failure is found by its text",
}

const writtenBefore = "kaniko writes it before anything is pushed; the results IMAGE_URL and IMAGE_DIGEST are set once the registry has the image"

// Args are the executor's arguments for o. The error names the option that is
// wrong, as the Task's params name it.
func Args(o Options) ([]string, error) {
	if o.SnapshotMode != "" && !slices.Contains([]string{"full", "redo", "time"}, o.SnapshotMode) {
		return nil, fmt.Errorf("param snapshot-mode: %q is none of full, redo and time", o.SnapshotMode)
	}
	if level, err := strconv.Atoi(o.CompressionLevel); o.CompressionLevel != "" && (err != nil || level < 1 || level > 9) {
		return nil, fmt.Errorf("param compression-level: %q is no number from 1 to 9", o.CompressionLevel)
	}
	compression := ""
	if o.Recompressed {
		// kaniko goes on with gzip where the types of a base image are Docker's.
		compression, o.CompressionLevel = "zstd", "1"
	}
	args := []string{
		"--dockerfile=" + o.Dockerfile,
		"--context=dir://" + o.Context,
		"--no-push",
		"--pre-cleanup", // what kaniko's own image has is in no stage
		"--oci-layout-path=" + o.Layout,
		// Both caches of kaniko are folders, of base images and of layers. Who
		// uses an entry is settled before kaniko starts, so none expires here.
		"--cache=true",
		"--cache-dir=" + o.BaseImages,
		"--cache-ttl=87600h",
		fmt.Sprintf("--cache-run-layers=%t", o.LayerCache != "" && o.CacheRun),
		"--cache-copy-layers=false",
		fmt.Sprintf("--single-snapshot=%t", o.SingleSnapshot),
		fmt.Sprintf("--use-new-run=%t", o.UseNewRun),
		fmt.Sprintf("--ignore-var-run=%t", o.IgnoreVarRun),
		fmt.Sprintf("--log-timestamp=%t", o.LogTimestamp),
		fmt.Sprintf("--image-fs-extract-retry=%d", o.ImageFSExtractRetry),
		fmt.Sprintf("--image-download-retry=%d", o.ImageDownloadRetry),
	}
	if o.LayerCache == "" {
		args = append(args, "--no-push-cache")
	} else if o.SingleSnapshot {
		return nil, errors.New(`param layer-cache-repo: single instructions have layers only with the param single-snapshot "false"`)
	}
	for _, flag := range []struct{ name, value string }{
		{"cache-repo", o.LayerCache},
		{"snapshot-mode", o.SnapshotMode},
		{"compression", compression},
		{"compression-level", o.CompressionLevel},
		{"verbosity", o.Verbosity},
	} {
		if flag.value != "" {
			args = append(args, "--"+flag.name+"="+flag.value)
		}
	}
	for _, flag := range []struct {
		name   string
		values []string
	}{
		{"target", o.Targets},
		{"build-arg", o.BuildArgs},
		{"secret", o.Secrets},
		{"ignore-path", o.IgnorePaths},
		{"registry-mirror", o.RegistryMirrors},
		{"registry-map", o.RegistryMaps},
		{"insecure-registry", o.InsecureRegistries},
		{"skip-tls-verify-registry", o.SkipTLSVerifyRegistries},
	} {
		for _, value := range flag.values {
			args = append(args, "--"+flag.name+"="+value)
		}
	}
	if o.SkipDefaultRegistryFallback {
		args = append(args, "--skip-default-registry-fallback")
	}
	if o.Force {
		args = append(args, "--force")
	}
	for _, arg := range o.Extra {
		flag, long := strings.CutPrefix(arg, "--")
		flag, _, _ = strings.Cut(flag, "=")
		if !long || flag == "" {
			return nil, fmt.Errorf("param kaniko-args: %q is neither --name nor --name=value", arg)
		}
		if why, ok := refused[flag]; ok {
			return nil, fmt.Errorf("param kaniko-args: --%s is refused: %s", flag, why)
		}
		if slices.Contains(planned, flag) {
			return nil, fmt.Errorf("param kaniko-args: --%s is decided by the task's own params; remove it", flag)
		}
	}
	return append(args, o.Extra...), nil
}
