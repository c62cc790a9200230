package corpus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/slipway-ci/slipway/internal/dockerfile"
	"github.com/slipway-ci/slipway/internal/frontend"
	"github.com/slipway-ci/slipway/internal/operation"
	"github.com/slipway-ci/slipway/test/docker/oracle"
)

// Derived tells what both front ends say of a Dockerfile.
type Derived struct {
	Args     map[string]string `json:"args,omitempty"`     // the build args that it was given
	BuildKit string            `json:"buildkit,omitempty"` // why BuildKit's refuses it; "" where it does not
	Refused  string            `json:"refused,omitempty"`  // why Slipway's does
	Panic    string            `json:"panic,omitempty"`    // where Slipway's panics, with the stack
}

// mounted are the paths that a build pod has something at.
var mounted = []string{
	"/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/kaniko", "/proc", "/slipway", "/slipway-built", "/slipway-secrets", "/sys", "/tekton", "/workspace",
}

// platform is the node's.
var platform = ocispecs.Platform{OS: "linux", Architecture: "amd64"}

// Derive has both front ends read a Dockerfile. An ARG that FROM needs and that
// has no default gets a build arg.
func Derive(ctx context.Context, content []byte) Derived {
	d := Derived{Args: neededArgs(content)}
	if _, err := read(ctx, content, "", d.Args); err != nil {
		d.BuildKit = err.Error()
	}
	func() {
		defer func() {
			if why := recover(); why != nil {
				d.Panic = fmt.Sprintf("%v\n%s", why, debug.Stack())
			}
		}()
		if err := derive(ctx, content, d.Args); err != nil {
			d.Refused = err.Error()
		}
	}()
	return d
}

// read has BuildKit's front end read a Dockerfile, as the daemon would.
func read(ctx context.Context, content []byte, target string, args map[string]string) (_ *frontend.Definition, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("BuildKit panics: %v", why)
		}
	}()
	return frontend.Read(ctx, content, frontend.Options{Target: target, BuildArgs: args, Platform: platform, Config: func(_ context.Context, ref string) ([]byte, error) {
		return config(original(ref))
	}})
}

// original is an image's name without the digest that it was pinned to.
func original(ref string) string {
	image, _, _ := strings.Cut(ref, "@")
	return image
}

// derive is what prepare does with a Dockerfile, but for what it finds elsewhere.
func derive(ctx context.Context, content []byte, args map[string]string) error {
	file, err := dockerfile.Parse("Dockerfile", content)
	if err != nil {
		return err
	}
	derived, err := file.Derive(ctx, dockerfile.Options{
		BuildArgs: args,
		Platform:  platform.OS + "/" + platform.Architecture,
		Mounted:   mounted,
		ModCache:  "/go/pkg/mod",
		Secrets:   secretIDs(content),
		Pin: func(_ context.Context, image, _ string) (string, error) {
			if _, err := name.ParseReference(image); err != nil {
				return "", fmt.Errorf("the registry is asked for what is no image: %w", err)
			}
			return original(image) + "@" + digestOf(image), nil
		},
		Config: func(_ context.Context, ref string) (*dockerfile.ImageConfig, error) {
			return imageConfig(original(ref)), nil
		},
	})
	if err != nil {
		return err
	}
	definition, err := read(ctx, derived.Content, derived.Target, args)
	if at := new(frontend.Error); errors.As(err, &at) {
		return derived.ErrorAt(at.Line, at.Error())
	}
	if err != nil {
		return err
	}
	converted, err := derived.Convert(ctx, definition, dockerfile.ConvertOptions{
		Command: []string{"/slipway/prepare", "operation", "/slipway"}, World: operation.World{Context: "/workspace/source", Kept: "/slipway-built/kept"},
	})
	if err != nil {
		return err
	}
	if _, err := dockerfile.Parse("Dockerfile", converted.Content); err != nil {
		return fmt.Errorf("the converted Dockerfile does not parse: %w", err)
	}
	return nil
}

func imageConfig(image string) *dockerfile.ImageConfig {
	c := standInConfig(image)
	return &dockerfile.ImageConfig{Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, OnBuild: c.OnBuild}
}

// secretID finds the ids that a RUN's mounts of secrets have.
var secretID = regexp.MustCompile(`--mount=\S*type=secret\S*`)

// secretIDs are the ids of all secrets that a Dockerfile mounts.
func secretIDs(content []byte) []string {
	var ids []string
	for _, mount := range secretID.FindAllString(string(content), -1) {
		id, target := "", ""
		for option := range strings.SplitSeq(strings.TrimPrefix(mount, "--mount="), ",") {
			switch key, value, _ := strings.Cut(option, "="); key {
			case "id":
				id = value
			case "target", "dst", "destination":
				target = value[strings.LastIndex(value, "/")+1:]
			}
		}
		if id == "" {
			id = target
		}
		ids = append(ids, id)
	}
	return ids
}

// neededArgs are values for the ARGs without one that a FROM needs.
func neededArgs(content []byte) map[string]string {
	result, err := parser.Parse(strings.NewReader(string(content)))
	if err != nil {
		return nil
	}
	silent := linter.New(&linter.Config{SkipAll: true})
	stages, globals, err := instructions.Parse(result.AST, silent)
	if err != nil {
		return nil
	}
	var words []string // that a FROM has or may need
	for _, stage := range stages {
		words = append(words, stage.BaseName)
	}
	for _, command := range globals {
		for _, arg := range command.Args {
			if arg.Value != nil {
				words = append(words, *arg.Value)
			}
		}
	}
	args := map[string]string{}
	for _, command := range globals {
		for _, arg := range command.Args {
			if arg.Value != nil && *arg.Value != "" {
				continue
			}
			use := regexp.MustCompile(`^(.*)\$(?:` + arg.Key + `\b|\{` + arg.Key + `\})(.*)$`)
			for _, word := range words {
				switch match := use.FindStringSubmatch(word); {
				case match == nil:
				case strings.Contains(match[1], ":"):
					args[arg.Key] = "1.25"
				case strings.HasSuffix(match[1], "@"):
					args[arg.Key] = digestOf(arg.Key)
				case strings.HasPrefix(match[2], "/"):
					args[arg.Key] = "quay.io/example"
				case strings.HasPrefix(match[2], ":") || match[1] != "":
					args[arg.Key] = "image"
				case match[2] != "":
					args[arg.Key] = "quay.io/example/"
				default:
					args[arg.Key] = "alpine:3"
				}
			}
		}
	}
	if len(args) == 0 {
		return nil
	}
	return args
}

// standInConfig is the configuration of the image that stands for another.
func standInConfig(image string) v1.Config { return oracle.StandInConfig(StandIn(image)) }

// Reasons counts texts by what they have in common: without names, numbers and
// lines.
func Reasons(texts []string) []string {
	counts, examples := map[string]int{}, map[string]string{}
	for _, text := range texts {
		kind := kindOf(text)
		counts[kind]++
		if examples[kind] == "" {
			examples[kind] = text
		}
	}
	kinds := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	var lines []string
	for _, kind := range kinds {
		lines = append(lines, fmt.Sprintf("%5d  %s", counts[kind], examples[kind]))
	}
	return lines
}

var particular = regexp.MustCompile(`"[^"]*"|'[^']*'|\S*[/$=.:@\d]\S*|\b[A-Z][A-Z0-9_]+\b`)

// kindOf is a text without what is particular to one Dockerfile.
func kindOf(text string) string {
	kind := particular.ReplaceAllString(text, "…")
	return strings.Join(strings.Fields(kind), " ")
}
