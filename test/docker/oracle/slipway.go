package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"sigs.k8s.io/yaml"

	"github.com/slipway-ci/slipway/internal/step"
	"github.com/slipway-ci/slipway/test/cluster"
	"github.com/slipway-ci/slipway/test/cluster/parts"
	"github.com/slipway-ci/slipway/test/docker/container"
)

// slipway runs the steps of tasks/build.yaml one after the other, each in a
// container with what the task and the kubelet put there.
type slipway struct {
	task     tekton.Task
	enter    string
	programs string // prepare and push
	executor string // kaniko's
	registry string
	claim    string // the folder of a claim that all builds have for their caches
	builds   atomic.Int64
}

// params are those that builds do not take the defaults of.
func (s *slipway) params(image string, c Case) map[string][]string {
	var args []string
	for _, key := range slices.Sorted(maps.Keys(c.Args)) {
		args = append(args, key+"="+c.Args[key])
	}
	var maps []string
	for _, host := range upstreams[1:] {
		maps = append(maps, host+"="+s.registry)
	}
	params := map[string][]string{
		"image":            {image},
		"build-args":       args,
		"target":           {c.Target},
		"registry-mirrors": {s.registry}, "registry-maps": maps, "insecure-registries": {s.registry},
		"skip-default-registry-fallback": {"true"},
		"skip-unchanged":                 {"false"}, // each case is to be built
	}
	for name, value := range c.Params {
		params[name] = []string{value}
	}
	return params
}

// unbound are the optional workspaces that builds do without.
var unbound = []string{"dockerconfig", "certificates", "output", "volume", "netrc", "git-credentials", "secrets"}

func newSlipway(ctx context.Context, dir, enter, programs, registry string) (*slipway, error) {
	kaniko, err := parts.Ensure(ctx, "kaniko", filepath.Join(dir, "build-kaniko.log"))
	if err != nil {
		return nil, err
	}
	s := &slipway{
		enter: enter, programs: programs, executor: filepath.Join(kaniko, "executor"),
		registry: registry, claim: filepath.Join(dir, "claim"),
	}
	content, err := os.ReadFile(filepath.Join(cluster.Root(), "tasks", "build.yaml"))
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(content, &s.task); err != nil {
		return nil, fmt.Errorf("tasks/build.yaml: %w", err)
	}
	return s, os.MkdirAll(filepath.Join(s.claim, "toolchains"), 0o777) // as the kubelet makes a subPath
}

// outcome is how a build ended.
type outcome struct {
	repository string
	image      v1.Image
	refused    string // why prepare did not begin
	failed     string // the step, and how it ended
	endless    bool   // it was ended, as it took too long
	log        string
}

// build runs all steps. What it leaves in dir is for whoever keeps it.
func (s *slipway) build(ctx context.Context, c Case, dir string) (outcome, error) {
	repository := fmt.Sprintf("built/%d", s.builds.Add(1))
	b := slipwayBuild{slipway: s, c: c, dir: dir, image: s.registry + "/" + repository}
	if err := c.copyContext(ctx, filepath.Join(dir, "source")); err != nil {
		return outcome{}, err
	}
	bounded, cancel := withinBound(ctx)
	defer cancel()
	for _, one := range s.task.Spec.Steps {
		began := b.log.Len()
		err := b.run(bounded, one)
		var exit *exec.ExitError
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return outcome{}, context.Cause(ctx)
		case bounded.Err() != nil:
			return outcome{failed: fmt.Sprintf("the step %s does not end: %v", one.Name, context.Cause(bounded)), endless: true, log: b.log.String()}, nil
		case !errors.As(err, &exit), exit.ExitCode() == container.ExitNoContainer:
			return outcome{}, fmt.Errorf("run the step %s: %w: %s", one.Name, err, lastLines(b.log.String(), 3))
		case one.Name == "prepare" && exit.ExitCode() == step.ExitBadInput:
			return outcome{refused: reason(b.log.String()[began:]), log: b.log.String()}, nil
		default:
			return outcome{failed: fmt.Sprintf("step %s: %v", one.Name, err), log: b.log.String()}, nil
		}
	}
	image, err := b.pushed(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("read the image that Slipway has pushed: %w", err)
	}
	return outcome{repository: repository, image: image, log: b.log.String()}, nil
}

// pushed is the image that the registry has of the build.
func (b *slipwayBuild) pushed(ctx context.Context) (v1.Image, error) {
	ref, err := name.NewTag(b.image, name.Insecure)
	if err != nil {
		return nil, err
	}
	return remote.Image(ref, remote.WithContext(ctx))
}

// reason is the last thing that prepare says.
func reason(log string) string {
	if at := strings.LastIndex("\n"+log, "\nprepare: "); at >= 0 {
		return strings.Join(strings.Fields(strings.TrimPrefix(log[at:], "prepare: ")), " ")
	}
	return lastLines(log, 1)
}

// slipwayBuild is one TaskRun: the volumes that end with it.
type slipwayBuild struct {
	*slipway
	c     Case
	dir   string
	image string
	log   bytes.Buffer
}

// volume is a folder that ends with the build.
func (b *slipwayBuild) volume(name string) (string, error) {
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o777) // as the kubelet makes an emptyDir
}

// podMounts are the folders and files that Tekton and the kubelet put into each
// container of a pod, besides what the task says.
var podMounts = struct{ folders, files []string }{
	folders: []string{"/workspace", "/tekton/home", "/tekton/results", "/tekton/steps", "/tekton/run/0", "/tekton/bin", "/tekton/creds", "/tekton/downward", "/tekton/artifacts"},
	files:   []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"},
}

func (b *slipwayBuild) run(ctx context.Context, one tekton.Step) error {
	mounts := map[string]container.Mount{}
	for _, path := range podMounts.folders {
		from, err := b.volume("tekton" + strings.ReplaceAll(path, "/", "-") + "-" + one.Name)
		if err != nil {
			return err
		}
		mounts[path] = container.Mount{From: from, To: path}
	}
	for _, path := range podMounts.files {
		from := filepath.Join(b.dir, "pod"+strings.ReplaceAll(path, "/", "-"))
		if err := os.WriteFile(from, []byte("127.0.0.1 localhost\n"), 0o666); err != nil {
			return err
		}
		if strings.HasPrefix(path, "/etc/") { // the container makes its own /dev
			mounts[path] = container.Mount{From: from, To: path}
		}
	}
	for _, m := range one.VolumeMounts {
		from, err := b.volume("volume-" + m.Name)
		if err != nil {
			return err
		}
		mounts[m.MountPath] = container.Mount{From: from, To: m.MountPath, ReadOnly: m.ReadOnly}
	}
	for _, usage := range one.Workspaces {
		at := slices.IndexFunc(b.task.Spec.Workspaces, func(w tekton.WorkspaceDeclaration) bool { return w.Name == usage.Name })
		if at < 0 {
			return fmt.Errorf("tasks/build.yaml: the step %s has the workspace %s, which the task does not declare", one.Name, usage.Name)
		}
		declared := b.task.Spec.Workspaces[at]
		from, err := b.workspace(usage.Name)
		if err != nil {
			return err
		}
		if from != "" {
			mounts[declared.GetMountPath()] = container.Mount{From: from, To: declared.GetMountPath(), ReadOnly: declared.ReadOnly}
		}
	}
	c := container.Container{Env: []string{"HOME=/root", "PATH=/bin"}, Files: map[string]string{}, Limited: true, Escalation: true}
	switch one.Name {
	case "build":
		c.Env = slices.Concat(cluster.KanikoEnv, []string{"container=kube"}) // for what kaniko sees of a container runtime
		c.Files["/kaniko/.docker/config.json"] = "{}"
		c.Files["/etc/nsswitch.conf"] = "hosts: files dns\n"
		mounts["/kaniko/executor"] = container.Mount{From: b.executor, To: "/kaniko/executor", ReadOnly: true}
	default:
		inside := "/ko-app/" + one.Name
		mounts[inside] = container.Mount{From: filepath.Join(b.programs, one.Name), To: inside, ReadOnly: true}
		c.Files["/tmp/.keep"] = ""
	}
	root, err := b.volume("root")
	if err != nil {
		return err
	}
	c.Root = root
	c.Mounts = slices.Collect(maps.Values(mounts))
	if security := one.SecurityContext; security != nil {
		if security.RunAsUser != nil {
			c.UID = int(*security.RunAsUser)
		}
		if security.RunAsGroup != nil {
			c.GID = int(*security.RunAsGroup)
		}
		if security.AllowPrivilegeEscalation != nil {
			c.Escalation = *security.AllowPrivilegeEscalation
		}
		if security.Capabilities != nil {
			for _, capability := range security.Capabilities.Add {
				c.Capabilities = append(c.Capabilities, string(capability))
			}
		}
	}
	c.Command = append(c.Command, one.Command...)
	for _, arg := range one.Args {
		c.Command = append(c.Command, b.expand(arg)...)
	}
	for _, variable := range one.Env {
		c.Env = append(c.Env, variable.Name+"="+strings.Join(b.expand(variable.Value), ""))
	}
	cmd, err := c.Start(ctx, b.enter)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = &b.log, &b.log
	return cmd.Run()
}

// workspace is what is bound to a workspace, "" for nothing.
func (b *slipwayBuild) workspace(name string) (string, error) {
	switch name {
	case "source":
		return filepath.Join(b.dir, "source"), nil
	case "cache":
		return b.claim, nil
	case "toolchains":
		return filepath.Join(b.claim, "toolchains"), nil
	}
	if slices.Contains(unbound, name) {
		return "", nil
	}
	return b.volume("workspace-" + name)
}

// variable is what Tekton replaces in a step.
var variable = regexp.MustCompile(`\$\((params|workspaces|results|context)\.([a-zA-Z._-]+?)(\.path|\[\*\])?\)`)

// expand is what Tekton makes of an argument or a value: several of an array.
func (b *slipwayBuild) expand(text string) []string {
	if match := variable.FindStringSubmatch(text); match != nil && match[0] == text {
		return b.value(match)
	}
	return []string{variable.ReplaceAllStringFunc(text, func(one string) string {
		return strings.Join(b.value(variable.FindStringSubmatch(one)), "")
	})}
}

func (b *slipwayBuild) value(match []string) []string {
	kind, key := match[1], match[2]
	switch kind {
	case "results":
		return []string{"/tekton/results/" + key}
	case "context":
		return []string{"test"}
	case "workspaces":
		at := slices.IndexFunc(b.task.Spec.Workspaces, func(w tekton.WorkspaceDeclaration) bool { return w.Name == key })
		if at < 0 || slices.Contains(unbound, key) {
			return []string{""}
		}
		return []string{b.task.Spec.Workspaces[at].GetMountPath()}
	}
	if values, ok := b.params(b.image, b.c)[key]; ok {
		return values
	}
	for _, param := range b.task.Spec.Params {
		if param.Name == key && param.Default != nil {
			if param.Type == tekton.ParamTypeArray {
				return param.Default.ArrayVal
			}
			return []string{param.Default.StringVal}
		}
	}
	return nil
}
