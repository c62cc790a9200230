// Package prepare is the step that decides everything about a build before
// kaniko starts: it checks the user's input, pins and fetches the base images,
// derives the Dockerfile and opens the caches. What it decided is the plan.
package prepare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sethvargo/go-envconfig"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/gocache"
	"github.com/slipway-ci/slipway/internal/inputs"
	"github.com/slipway-ci/slipway/internal/kaniko"
	"github.com/slipway-ci/slipway/internal/logins"
	"github.com/slipway-ci/slipway/internal/modules"
	"github.com/slipway-ci/slipway/internal/operation"
	"github.com/slipway-ci/slipway/internal/plan"
	"github.com/slipway-ci/slipway/internal/step"
)

// Where RUN instructions find Go's module cache and Go's settings. The module
// cache's path is part of what a build without -trimpath yields, so it is the
// golang images' own, with or without a cache volume.
const (
	goModCache   = "/go/pkg/mod"
	goUserConfig = "/root/.config/go"
	goUserEnv    = goUserConfig + "/env"
)

// goBuildCache is where RUN instructions find Go's build cache: the same path in
// each build, whichever generation of whatever volume is behind it. A Dockerfile
// may declare it as an ARG, and then it is an input of the image and of kaniko's
// layers.
func goBuildCache(c *Config) string { return filepath.Join(c.Built, string(gocache.GoBuild)) }

// goTelemetry is where go commands count their uses, for users with the usual
// homes: files that differ from build to build, and nothing that anybody wants
// in an image. For root a file of ours switches that off; it is also why the
// folders above it are there before kaniko's first snapshot, and so are in no
// layer, whichever file has the settings.
var goTelemetry = []string{goUserConfig + "/telemetry", "/home/*/.config/go/telemetry", "/*/.config/go/telemetry"}

// Run decides about a build and leaves the plan, the derived Dockerfile, the
// base images and this program itself (for the build step, in whose image it
// is not) in the folder of the config. args are the array params, as
// [step.Arrays] reads them.
func Run(ctx context.Context, host Host, args []string, env envconfig.Lookuper, stderr io.Writer) (err error) {
	c, err := load(ctx, args, env)
	if err != nil {
		return err
	}
	log := &log{out: stderr}
	program := step.Begin(func() (inputs.Input, error) { return copyProgram(host.Executable, programFor(c)) })
	defer program() //nolint:errcheck // an error on the way was the first
	naming, err := newNaming(c, host)
	if err != nil {
		return err
	}
	defer naming.close()
	tellAnnotated(host.Mounts, log)
	tellUnsealed(c, log)
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := logins.Folder(c.Logins).Leave(c.DockerConfig, c.Certificates); err != nil {
		return err
	}
	source, err := readSource(c)
	if err != nil {
		return err
	}
	file, err := dockerfile.Parse(source.name, source.dockerfile)
	if err != nil {
		return badDockerfile(err)
	}
	if err := naming.expand(); err != nil {
		return err
	}
	secrets, err := readSecrets(c.Secrets)
	if err != nil {
		return err
	}
	caches, err := openCaches(c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caches.release()) }()
	if err := caches.useModules(c, source); err != nil {
		return err
	}
	toolchain := &toolchain{config: c, host: host, name: source.name, caches: caches, log: log}
	toolchain.store = toolchain.open()
	looking, stop := context.WithCancel(ctx)
	defer toolchain.wait()
	defer stop()
	bases := &bases{
		client: client,
		known:  func(digest v1.Hash) { toolchain.look(looking, digest) },
		store:  caches.bases,
		caches: caches,
		inUse:  gocache.BaseImages(filepath.Join(c.Prepared, string(gocache.Bases))),
		log:    log,

		retries: c.ImageDownloadRetry,
	}
	derived, err := file.Derive(ctx, dockerfile.Options{
		Target:    c.Target,
		BuildArgs: c.userArgs(),
		Platform:  host.Platform,
		Mounted:   mounted(c, host),
		ModCache:  goModCache,
		Pin:       bases.pin,
		Config:    bases.config,
		Source:    source.check,
		Has:       source.has,
		Secrets:   slices.Sorted(maps.Keys(secrets)),
	})
	if err != nil {
		return badDockerfile(err)
	}
	if err := caches.share(c, source.name, derived.OtherUser(), log); err != nil {
		return err
	}
	settings := goSettings(c, derived)
	given := buildArgs(c, derived, settings)
	converted, err := convert(ctx, c, host, source, derived, bases, given)
	if err != nil {
		return err
	}
	p, err := decide(c, host, source, derived, converted, caches, bases, given)
	if err != nil {
		return err
	}
	tell(c, source, derived, given, log)
	unchanged := &unchanged{config: c, host: host, program: program, client: client, source: source, derived: derived, converted: converted, bases: bases, secrets: secrets, log: log}
	if err := unchanged.find(ctx, p, given); err != nil {
		return err
	}
	naming.source.InputDigest = func() (string, error) {
		now, err := unchanged.inputs(ctx, p, given)
		if err != nil {
			return "", err
		}
		return now.Inputs, nil
	}
	if err := naming.decide(ctx, client, unchanged, p, log); err != nil {
		return err
	}
	if p.Unchanged != nil {
		return leave(c, host, program, source, converted, p)
	}
	err = fetchPrivate(ctx, c, source, caches.goMod.dir, log)
	if errors.Is(err, modules.ErrOther) {
		// Another build has put it there since the modules were looked at.
		if err := caches.goMod.leave(c, p, err, log); err != nil {
			return err
		}
		err = fetchPrivate(ctx, c, source, caches.goMod.dir, log)
	}
	if err != nil {
		return err
	}
	if derived.Modules != nil {
		log.printf("modules: the module cache is the image's own: %s:%s", source.name, derived.Modules)
		log.unused = append(log.unused, fmt.Sprintf("%s: %s:%s", gocache.GoMod, source.name, derived.Modules))
		fetchAll(ctx, c, source, caches.goMod, log)
	}
	// Not as an ARG: a file that cannot be written fails a build, and this
	// way only those read of it who can write it.
	settings["GOFLAGS"] = strings.TrimSpace("-debug-actiongraph=" + p.ActionGraph + " " + c.GoFlags)
	if derived.NamesGoFlags() {
		// Some go command will not see these: internal/cacheprog.
		settings["GOCACHEPROG"] = programFor(c) + " go-cache " + p.ActionGraph
	}
	tellRunLayers(c, p.Layers, source.name, derived, log)
	if err := pullLayers(ctx, client, p.Layers, log); err != nil {
		return err
	}
	toolchain.derived, toolchain.bases = derived, bases
	if err := toolchain.use(ctx, p, settings); err != nil {
		return err
	}
	if p.BaseLayers, err = bases.layers(derived.Bases); err != nil {
		return err
	}
	if p.Cache = caches.handOver(c); p.Cache != nil {
		p.Cache.KeepsCompiled = p.Cache.GoBuild != "" && len(derived.Escapes) == 0
	}
	for _, note := range derived.Escapes {
		log.unused = append(log.unused, source.name+":"+note.String())
	}
	p.Unused = log.unused
	if err := secrets.leave(c.SecretsForRun, derived.Secrets); err != nil {
		return err
	}
	return leave(c, host, program, source, converted, p)
}

// badDockerfile tells the user's findings from failures on the way.
func badDockerfile(err error) error {
	var finding *dockerfile.Error
	if errors.As(err, &finding) {
		return step.BadInput(err)
	}
	return err
}

// mounted is what kaniko ignores in its container: what Tekton and the Task
// mount there (as they do here), and kaniko's own folder.
func mounted(c *Config, host Host) []string {
	paths := append([]string{"/dev", "/kaniko", "/proc", "/sys", "/tekton", "/workspace", c.Prepared, c.Built, c.SecretsForRun}, host.Mounts...)
	if c.IgnoreVarRun {
		paths = append(paths, "/var/run")
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// goSettings are for every go command of the build. Where the module cache is
// the image's own, it is where Go has it.
func goSettings(c *Config, derived *dockerfile.Derived) map[string]string {
	settings := map[string]string{"GOCACHE": goBuildCache(c)}
	if derived.Modules == nil {
		settings["GOMODCACHE"] = goModCache
	}
	switch {
	case c.GoProxy == "":
	case derived.Modules == nil:
		settings["GOPROXY"] = c.GoProxy
	default:
		keptFirst(c, settings, c.GoProxy)
	}
	if noSumDB := joinPatterns(c.GoNoSumDB, c.GoPrivate); noSumDB != "" {
		settings["GONOSUMDB"] = noSumDB
	}
	if c.GoPrivate != "" && c.GoProxy == "" {
		settings["GONOPROXY"] = c.GoPrivate // Go's default is a public one, which need not know the names
	}
	if c.GoFlags != "" {
		settings["GOFLAGS"] = c.GoFlags
	}
	return settings
}

// buildArgs are the user's, and the settings that the Dockerfile declares.
func buildArgs(c *Config, derived *dockerfile.Derived, settings map[string]string) []string {
	args, given := slices.Clone(c.BuildArgs), c.userArgs()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if _, ok := given[name]; derived.Args[name] && !ok {
			args = append(args, name+"="+settings[name])
		}
	}
	return args
}

// kanikoFeatures are kaniko's switches that builds here rely on.
var kanikoFeatures = map[string]string{
	"FF_KANIKO_OCI_WARMER": "true", // see gocache.BaseImages
	// What BuildKit always does. All but the first are for what a base image's
	// ONBUILD brings along: other instructions of these kinds are operations.
	"FF_KANIKO_BUILDKIT_ARG_ENV_PRECEDENCE": "true",
	"FF_KANIKO_COPY_AS_ROOT":                "true",
	"FF_KANIKO_RUN_MOUNT_BIND":              "true",
	"FF_KANIKO_VOLUME_SKIP_MKDIR":           "true",
}

func kanikoEnv(c *Config) map[string]string {
	env := maps.Clone(kanikoFeatures)
	for _, entry := range c.KanikoEnv {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	return env
}

// decide makes the plan, but for the toolchain and where settings are found.
func decide(c *Config, host Host, source *source, derived *dockerfile.Derived, converted *converted, caches *caches, bases *bases, args []string) (*plan.Plan, error) {
	p := &plan.Plan{
		Started:      host.Started.UTC(),
		Env:          kanikoEnv(c),
		Links:        []plan.Link{{Path: goModCache, Target: caches.goMod.dir}, {Path: goBuildCache(c), Target: caches.goBuild.dir}},
		Layout:       filepath.Join(c.Built, "layout"),
		Reproducible: c.Reproducible,
		Compression:  c.CompressionLevel,
		ActionGraph:  filepath.Join(c.Built, "go", "actions"),
		Compiled:     filepath.Join(c.Built, "go", "compiled.json"),
		Downloaded:   filepath.Join(c.Built, "go", "downloaded.json"),
		Dockerfile:   source.name,
		Times:        filepath.Join(c.Built, "times.json"),
		ImageConfig:  converted.config,
		Operate:      programFor(c),
		Kept:         converted.world.Kept,
	}
	for _, run := range converted.Runs {
		p.Runs = append(p.Runs, plan.Run(run))
	}
	p.Files = []plan.File{
		{Path: filepath.Join(goTelemetry[0], "mode"), Content: "off\n"},
	}
	ignored := slices.Concat([]string{goModCache}, goTelemetry, c.IgnorePaths)
	if derived.Modules == nil {
		p.Modules = caches.goMod.dir
	} else {
		p.Links[0].Path, ignored = keptModules(c), ignored[1:]
	}

	var err error
	if p.Layers, err = c.layers(derived); err != nil {
		return nil, err
	}
	if _, given := c.userArgs()["TARGETSTAGE"]; converted.TargetStage != "" && !given {
		args = append(slices.Clone(args), "TARGETSTAGE="+converted.TargetStage)
	}
	layerCache := ""
	if p.Layers != nil {
		layerCache = p.Layers.Folder.Flag()
	}
	p.Recompress = p.Layers == nil && !slices.ContainsFunc(c.KanikoArgs, func(arg string) bool { return strings.HasPrefix(arg, "--compression=") })
	if p.Args, err = kaniko.Args(kaniko.Options{
		Dockerfile:                  filepath.Join(c.Prepared, "Dockerfile"),
		Context:                     source.context.Dir(),
		Targets:                     converted.Targets,
		Layout:                      p.Layout,
		BaseImages:                  string(bases.inUse),
		LayerCache:                  layerCache,
		CacheRun:                    c.runLayers(derived) || c.CacheCopy, // COPY is a RUN to kaniko
		BuildArgs:                   args,
		Secrets:                     secretFlags(c.SecretsForRun, derived.Secrets),
		IgnorePaths:                 ignored,
		SingleSnapshot:              c.SingleSnapshot,
		UseNewRun:                   c.UseNewRun,
		IgnoreVarRun:                c.IgnoreVarRun,
		SnapshotMode:                c.SnapshotMode,
		CompressionLevel:            c.CompressionLevel,
		Recompressed:                p.Recompress,
		Verbosity:                   c.Verbosity,
		Force:                       c.Force,
		LogTimestamp:                c.LogTimestamp,
		ImageFSExtractRetry:         c.FSExtractRetry,
		ImageDownloadRetry:          c.ImageDownloadRetry,
		RegistryMirrors:             c.Mirrors,
		RegistryMaps:                c.Maps,
		InsecureRegistries:          c.Insecure,
		SkipTLSVerifyRegistries:     c.SkipTLSVerify,
		SkipDefaultRegistryFallback: c.NoFallback,
		Extra:                       c.KanikoArgs,
	}); err != nil {
		return nil, step.BadInput(err)
	}
	return p, nil
}

// tell says what the user may not expect of the build.
func tell(c *Config, source *source, derived *dockerfile.Derived, args []string, log *log) {
	names := map[string]bool{}
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		names[name] = true
	}
	if len(names) > 0 {
		log.printf("build args: %s", strings.Join(slices.Sorted(maps.Keys(names)), ", "))
	}
	for _, note := range derived.Notes {
		if note.Line > 0 {
			log.printf("%s:%d: %s", source.name, note.Line, note.Text)
		} else {
			log.printf("%s: %s", source.name, note.Text)
		}
	}
	for _, ignored := range c.IgnorePaths {
		if note := derived.CopiesTo(path.Clean(ignored)); note != nil {
			log.printf("%s:%s: the param ignore-paths has %s: kaniko drops folders that are copied there, and nothing there is in the image", source.name, note, ignored)
		}
	}
	if diff := derived.Diff(); diff != "" {
		log.printf("%s", strings.TrimSuffix(diff, "\n"))
	}
}

// lines is a file of Go's settings, as `go env -w` writes it.
func lines(settings map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", name, settings[name])
	}
	return text.String()
}

// leave writes what the later steps read; the plan, which they read first,
// last.
func leave(c *Config, host Host, program func() (inputs.Input, error), source *source, converted *converted, p *plan.Plan) error {
	name := filepath.Join(c.Prepared, "Dockerfile")
	if err := step.WriteFile(name, converted.Content, 0o644); err != nil {
		return fmt.Errorf("write the derived Dockerfile: %w", err)
	}
	if source.ignore != "" {
		// Where kaniko looks for a Dockerfile's own, before the context's.
		if err := step.WriteFile(name+".dockerignore", ignoreForKaniko(source.context.Patterns()), 0o644); err != nil {
			return fmt.Errorf("write the Dockerfile's .dockerignore: %w", err)
		}
	}
	converted.world.Hidden, converted.world.Ignored = hidden(c, host, p), c.IgnorePaths
	if err := operation.Write(c.Prepared, converted.world, converted.Operations); err != nil {
		return err
	}
	if _, err := program(); err != nil {
		return fmt.Errorf("copy this program for the build step: %w", err)
	}
	return p.Write(c.Prepared)
}
