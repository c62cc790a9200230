package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sync/errgroup"
)

// tektonModules are the parts that are Tekton's, and the modules that their
// configuration comes from.
var tektonModules = map[string]string{
	"tekton":   "github.com/tektoncd/pipeline",
	"triggers": "github.com/tektoncd/triggers",
}

// tekton applies the configuration that lies in Tekton's own modules, with
// default settings, and waits until its webhooks answer.
func (b *boot) tekton(ctx context.Context) error {
	for _, part := range []string{"tekton", "triggers"} {
		config, err := b.tektonConfig(ctx, part)
		if err != nil {
			return err
		}
		// Definitions are established a moment after they are applied, and
		// webhooks answer later still: apply until all of it is taken.
		if err := waitFor(ctx, part+"'s configuration", func(ctx context.Context) error {
			return kubectl(ctx, config, "apply", "--server-side", "--force-conflicts", "-f", "-")
		}); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, namespace := range []string{"tekton-pipelines", "tekton-pipelines-resolvers"} {
		group.Go(func() error {
			return kubectl(ctx, "", "wait", "--for=condition=Available", "deployment", "--all", "--namespace="+namespace, "--timeout=3m")
		})
	}
	return group.Wait()
}

var (
	koReference  = regexp.MustCompile(`"?ko://[^\s",]+"?`)
	shellImage   = regexp.MustCompile(`cgr\.dev/chainguard/busybox@sha256:[0-9a-f]{64}`)
	autoscaler   = regexp.MustCompile(`(?m)^kind: HorizontalPodAutoscaler$`)
	documentLine = regexp.MustCompile(`(?m)^---\s*$`)
)

// tektonConfig reads the part's config folder with the images replaced by those
// in the cluster's registry.
func (b *boot) tektonConfig(ctx context.Context, part string) (string, error) {
	module := tektonModules[part]
	list := exec.CommandContext(ctx, "go", "list", "-mod=readonly", "-m", "-f={{.Dir}}", module)
	list.Dir = filepath.Join(ownDir(), "parts", part)
	dir, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find module %s: %w", module, err)
	}
	if len(strings.TrimSpace(string(dir))) == 0 {
		download := exec.CommandContext(ctx, "go", "mod", "download", module)
		download.Dir = list.Dir
		if out, err := download.CombinedOutput(); err != nil {
			return "", fmt.Errorf("download module %s: %w: %s", module, err, out)
		}
		if dir, err = list.Output(); err != nil {
			return "", fmt.Errorf("find module %s: %w", module, err)
		}
	}
	var documents []string
	config := filepath.Join(strings.TrimSpace(string(dir)), "config")
	err = filepath.WalkDir(config, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".yaml" {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, document := range documentLine.Split(string(content), -1) {
			// Nothing here has metrics to scale by.
			if strings.TrimSpace(document) != "" && !autoscaler.MatchString(document) {
				documents = append(documents, document)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var unknown error
	resolved := koReference.ReplaceAllStringFunc(strings.Join(documents, "\n---\n"), func(quoted string) string {
		ref, ok := b.refs[strings.Trim(quoted, `"`)]
		if !ok {
			unknown = fmt.Errorf("%s names %s, which is not among the images built", config, quoted)
		}
		return `"` + ref + `"`
	})
	return shellImage.ReplaceAllString(resolved, b.refs[busyboxImage]), unknown
}
