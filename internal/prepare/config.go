package prepare

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sethvargo/go-envconfig"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/slipway-ci/slipway/internal/artifact"
	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/registry"
	"github.com/slipway-ci/slipway/internal/step"
)

// Config is the step's environment.
type Config struct {
	Source        string `env:"WORKSPACE_SOURCE_PATH, required"`
	Cache         string `env:"WORKSPACE_CACHE_PATH"`           // "" where none is bound
	Toolchains    string `env:"WORKSPACE_TOOLCHAINS_PATH"`      // the cache's folder of that name, read-only; "" where none is bound
	DockerConfig  string `env:"WORKSPACE_DOCKERCONFIG_PATH"`    // "" where none is bound
	Certificates  string `env:"WORKSPACE_CERTIFICATES_PATH"`    // "" where none is bound
	Netrc         string `env:"WORKSPACE_NETRC_PATH"`           // "" where none is bound
	GitLogins     string `env:"WORKSPACE_GIT_CREDENTIALS_PATH"` // "" where none is bound
	Secrets       string `env:"WORKSPACE_SECRETS_PATH"`         // "" where none is bound
	Volume        string `env:"WORKSPACE_VOLUME_PATH"`          // "" where none is bound
	Prepared      string `env:"PREPARED_PATH, required"`        // a folder the later steps can read
	Built         string `env:"BUILT_PATH, required"`           // a folder the build step can write
	SecretsForRun string `env:"SECRETS_PATH, required"`         // a folder in memory that the build step can read
	Logins        string `env:"LOGINS_PATH, required"`          // a folder in memory that the step push alone has, too

	// Where the build step has nothing in the place of the folders that results
	// and artifacts are read from; "" where it has these.
	SealedResults   string `env:"WORKSPACE_SEALED_RESULTS_PATH"`
	SealedArtifacts string `env:"WORKSPACE_SEALED_ARTIFACTS_PATH"`

	Artifact   string `env:"PARAM_ARTIFACT"` // has its words in the place of the next four and the build args
	Image      string `env:"PARAM_IMAGE"`
	Context    string `env:"PARAM_CONTEXT, required"`
	Dockerfile string `env:"PARAM_DOCKERFILE, required"`
	Target     string `env:"PARAM_TARGET"`

	GoProxy        string `env:"PARAM_GO_PROXY"`
	GoNoSumDB      string `env:"PARAM_GO_NO_SUM_DB"`
	GoPrivate      string `env:"PARAM_GO_PRIVATE"`
	GoPrivateProxy string `env:"PARAM_GO_PRIVATE_PROXY"`
	GoFlags        string `env:"PARAM_GO_FLAGS"`

	CacheSize resource.Quantity `env:"PARAM_CACHE_SIZE"` // of the cache volume, in bytes; 0 for as much as there is

	ToolchainCache bool `env:"PARAM_TOOLCHAIN_CACHE, required"`

	SkipUnchanged       bool          `env:"PARAM_SKIP_UNCHANGED, required"`
	UnchangedTTL        time.Duration `env:"PARAM_UNCHANGED_TTL"`        // 0 is for ever
	UnchangedRepository string        `env:"PARAM_UNCHANGED_REPOSITORY"` // "" is the image's own
	Push                bool          `env:"PARAM_PUSH, required"`
	PushRetry           int           `env:"PARAM_PUSH_RETRY, required"`
	Output              string        `env:"WORKSPACE_OUTPUT_PATH"`
	OutputLayout        string        `env:"PARAM_OCI_LAYOUT_PATH"` // where else the image is to be; "" for nowhere
	OutputTar           string        `env:"PARAM_TAR_PATH"`

	NoFallback         bool `env:"PARAM_SKIP_DEFAULT_REGISTRY_FALLBACK, required"`
	ImageDownloadRetry int  `env:"PARAM_IMAGE_DOWNLOAD_RETRY, required"`

	LayerCacheRepo string        `env:"PARAM_LAYER_CACHE_REPO"` // "" for no layer cache
	LayerCacheTTL  time.Duration `env:"PARAM_LAYER_CACHE_TTL, required"`
	CacheRun       bool          `env:"PARAM_CACHE_RUN_LAYERS, required"`
	CacheCopy      bool          `env:"PARAM_CACHE_COPY_LAYERS, required"`

	Reproducible     bool   `env:"PARAM_REPRODUCIBLE, required"`
	SingleSnapshot   bool   `env:"PARAM_SINGLE_SNAPSHOT, required"`
	SkipUnusedStages bool   `env:"PARAM_SKIP_UNUSED_STAGES, required"`
	UseNewRun        bool   `env:"PARAM_USE_NEW_RUN, required"`
	IgnoreVarRun     bool   `env:"PARAM_IGNORE_VAR_RUN, required"`
	SnapshotMode     string `env:"PARAM_SNAPSHOT_MODE"`
	CompressionLevel string `env:"PARAM_COMPRESSION_LEVEL"`
	Verbosity        string `env:"PARAM_KANIKO_VERBOSITY"`
	Force            bool   `env:"PARAM_FORCE, required"`
	LogTimestamp     bool   `env:"PARAM_LOG_TIMESTAMP, required"`
	FSExtractRetry   int    `env:"PARAM_IMAGE_FS_EXTRACT_RETRY, required"`
	KanikoImage      string `env:"PARAM_KANIKO_IMAGE, required"`

	arrays
}

// arrays are the params that arrive as arguments.
type arrays struct {
	BuildArgs     []string
	KanikoArgs    []string
	Mirrors       []string
	Maps          []string
	Insecure      []string
	SkipTLSVerify []string

	Tags           []string
	TemplateValues []string
	Destinations   []string
	ImmutableTags  []string

	Labels               []string
	KanikoEnv            []string
	IgnorePaths          []string
	RegistryCertificates []string
	RegistryClientCerts  []string
}

func load(ctx context.Context, args []string, env envconfig.Lookuper) (*Config, error) {
	var c Config
	if err := step.Load(ctx, &c, env); err != nil {
		return nil, err
	}
	if err := step.Arrays(args, map[string]*[]string{
		"--build-args":                 &c.BuildArgs,
		"--kaniko-args":                &c.KanikoArgs,
		"--registry-mirrors":           &c.Mirrors,
		"--registry-maps":              &c.Maps,
		"--insecure-registries":        &c.Insecure,
		"--skip-tls-verify-registries": &c.SkipTLSVerify,
		"--tags":                       &c.Tags,
		"--template-values":            &c.TemplateValues,
		"--destinations":               &c.Destinations,
		"--immutable-tags":             &c.ImmutableTags,
		"--labels":                     &c.Labels,
		"--kaniko-env":                 &c.KanikoEnv,
		"--ignore-paths":               &c.IgnorePaths,
		"--registry-certificates":      &c.RegistryCertificates,
		"--registry-client-certs":      &c.RegistryClientCerts,
	}); err != nil {
		return nil, err
	}
	artifact, err := artifact.Parse(c.Artifact)
	if err != nil {
		return nil, step.BadInput(err)
	}
	artifact.Over(&c.Image, &c.Context, &c.Dockerfile, &c.Target, &c.BuildArgs)
	if c.Image == "" {
		return nil, step.BadInput(errors.New("param image is empty: name the repository to push to"))
	}
	if !c.SkipUnusedStages {
		return nil, step.BadInput(errors.New(`param skip-unused-stages: "false" is not possible: kaniko has skipped unused stages since v1.26; name the stage to build in the param target`))
	}
	if c.CacheSize.Sign() < 0 {
		return nil, step.BadInput(fmt.Errorf("param cache-size: %s is less than nothing: give a size such as 10Gi, or 0 for no limit", &c.CacheSize))
	}
	for param, entries := range map[string][]string{"build-args": c.BuildArgs, "labels": c.Labels, "kaniko-env": c.KanikoEnv} {
		for _, entry := range entries {
			if key, _, ok := strings.Cut(entry, "="); !ok || key == "" {
				return nil, step.BadInput(fmt.Errorf("param %s: %q is not KEY=VALUE", param, key))
			}
		}
	}
	if err := checkKanikoEnv(c.KanikoEnv); err != nil {
		return nil, step.BadInput(fmt.Errorf("param kaniko-env: %w", err))
	}
	if err := (plan.Output{Workspace: c.Output, Layout: c.OutputLayout, Tar: c.OutputTar}).Check(c.Push); err != nil {
		return nil, step.BadInput(err)
	}
	if c.UnchangedRepository != "" {
		if _, err := name.NewRepository(c.UnchangedRepository); err != nil {
			return nil, step.BadInput(fmt.Errorf("param unchanged-repository: %w", err))
		}
	}
	for _, path := range c.IgnorePaths {
		if !filepath.IsAbs(path) {
			return nil, step.BadInput(fmt.Errorf("param ignore-paths: %q is no absolute path", path))
		}
	}
	for name, retries := range map[string]int{"push-retry": c.PushRetry, "image-download-retry": c.ImageDownloadRetry, "image-fs-extract-retry": c.FSExtractRetry} {
		if err := registry.CheckRetries(retries); err != nil {
			return nil, step.BadInput(fmt.Errorf("param %s: %w", name, err))
		}
	}
	for name, value := range map[string]string{
		"go-proxy": c.GoProxy, "go-no-sum-db": c.GoNoSumDB, "go-private": c.GoPrivate, "go-private-proxy": c.GoPrivateProxy, "go-flags": c.GoFlags,
	} {
		if strings.ContainsAny(value, "\r\n") {
			return nil, step.BadInput(fmt.Errorf("param %s has more than one line", name))
		}
		if what := dockerfile.SecretIn(value); what != "" {
			return nil, step.BadInput(fmt.Errorf("param %s has %s: every RUN could read it, and it would stay in the run's params; the workspace netrc is the place for logins, and the params go-private and go-private-proxy say for what", name, what))
		}
	}
	return &c, nil
}

// checkKanikoEnv refuses what decides where kaniko works, and passwords: every
// RUN can read the environment of its own ancestors.
func checkKanikoEnv(entries []string) error {
	for _, entry := range entries {
		name, value, _ := strings.Cut(entry, "=")
		if _, ours := kanikoFeatures[name]; ours || strings.HasPrefix(name, "KANIKO_") {
			return fmt.Errorf("%s is the task's own to set; remove it", name)
		}
		if what := dockerfile.SecretIn(value); what != "" {
			return fmt.Errorf("%s has %s: every RUN could read it, and it would stay in the run's params", name, what)
		}
	}
	return nil
}

// checkLabels refuses passwords.
func checkLabels(entries []string) error {
	for _, entry := range entries {
		name, value, _ := strings.Cut(entry, "=")
		if what := dockerfile.SecretIn(value); what != "" {
			return fmt.Errorf("%s has %s: whoever has the image could read it, and it would stay in the run's params", name, what)
		}
	}
	return nil
}

// userArgs are the build args by name; of one that is given twice the last
// counts, as kaniko has it.
func (c *Config) userArgs() map[string]string {
	values := map[string]string{}
	for _, arg := range c.BuildArgs {
		key, value, _ := strings.Cut(arg, "=")
		values[key] = value
	}
	return values
}

// repository is whose builds count together: those of one image.
func (c *Config) repository() string {
	repository, _, _ := strings.Cut(c.Image, "@")
	if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
		repository = repository[:colon]
	}
	return repository
}

func (c *Config) client() (*registry.Client, error) {
	keychain, err := registry.Credentials(c.DockerConfig)
	if err != nil {
		return nil, step.BadInput(err)
	}
	client, err := registry.New(registry.Options{
		Mirrors:       c.Mirrors,
		Maps:          c.Maps,
		NoFallback:    c.NoFallback,
		Insecure:      c.Insecure,
		SkipTLSVerify: c.SkipTLSVerify,
		Certificates:  registry.Certificates{Folder: c.Certificates, Known: c.RegistryCertificates, Client: c.RegistryClientCerts},
		Keychain:      keychain,
		Retries:       c.ImageDownloadRetry,
	})
	if err != nil {
		return nil, step.BadInput(fmt.Errorf("param %w", err))
	}
	return client, nil
}
