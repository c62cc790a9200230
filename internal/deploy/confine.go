package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// confine follows every reference of the kustomization in dir, and of those it
// builds on, before kustomize runs. It refuses by name whatever would be
// fetched, executed or read from beyond the source: kustomize itself fetches
// http(s) references and clones git ones wherever it meets them, past the file
// system it was given. It returns the kustomization in dir and its file.
func (s *source) confine(dir string) (file string, k *types.Kustomization, err error) {
	w := walk{source: s, seen: map[string]bool{}}
	return w.kustomization(dir)
}

type walk struct {
	*source
	seen map[string]bool // real paths of kustomization folders
}

func (w *walk) kustomization(dir string) (file string, k *types.Kustomization, err error) {
	w.seen[dir] = true
	file, k, err = w.load(dir)
	if err != nil {
		return "", nil, err
	}
	refuse := func(field, what string) error {
		return fmt.Errorf("%s: %s: %s", w.name(file), field, what)
	}

	if len(k.HelmCharts) > 0 || k.HelmGlobals != nil {
		return "", nil, refuse("helmCharts", "helm charts are not rendered here; commit the chart's rendered manifests instead")
	}
	for _, list := range []struct {
		field string
		refs  []string
	}{{"resources", k.Resources}, {"components", k.Components}} {
		for _, ref := range list.refs {
			real, isDir, err := w.reference(dir, ref)
			if err != nil {
				return "", nil, refuse(list.field, err.Error())
			}
			if isDir && !w.seen[real] {
				if _, _, err := w.kustomization(real); err != nil {
					return "", nil, err
				}
			}
		}
	}
	for _, list := range []struct {
		field string
		refs  []string
	}{{"generators", k.Generators}, {"transformers", k.Transformers}, {"validators", k.Validators}} {
		for _, ref := range list.refs {
			if err := w.plugin(dir, ref); err != nil {
				return "", nil, refuse(list.field, err.Error())
			}
		}
	}
	read := files(k)
	for _, field := range slices.Sorted(maps.Keys(read)) {
		for _, ref := range read[field] {
			if _, _, err := w.reference(dir, ref); err != nil {
				return "", nil, refuse(field, err.Error())
			}
		}
	}
	return file, k, nil
}

// load reads the kustomization of a folder as kustomize does.
func (w *walk) load(dir string) (file string, k *types.Kustomization, err error) {
	var content []byte
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		path := filepath.Join(dir, name)
		if _, _, err := w.resolve(path); errors.Is(err, errMissing) {
			continue
		} else if err != nil {
			return "", nil, err
		}
		if file != "" {
			return "", nil, fmt.Errorf("%s: it holds both %s and %s; keep one", w.name(dir), filepath.Base(file), name)
		}
		file = path
		if content, err = w.ReadFile(path); err != nil {
			return "", nil, fmt.Errorf("read %s: %w", w.name(path), err)
		}
	}
	if file == "" {
		return "", nil, fmt.Errorf("%s: the folder has no kustomization.yaml", w.name(dir))
	}
	k = &types.Kustomization{}
	if err := k.Unmarshal(content); err != nil {
		return "", nil, fmt.Errorf("%s: %w", w.name(file), err)
	}
	k.FixKustomization()
	return file, k, nil
}

// reference checks one reference of a kustomization in dir and returns where
// it leads.
func (w *walk) reference(dir, ref string) (real string, isDir bool, err error) {
	if remote(ref) {
		return "", false, fmt.Errorf("%s is remote; commit a copy to the source and name that", ref)
	}
	if filepath.IsAbs(ref) {
		return "", false, fmt.Errorf("%s is absolute; name it relative to the kustomization", ref)
	}
	real, info, err := w.resolve(filepath.Join(dir, ref))
	switch {
	case errors.Is(err, errLeaves):
		return "", false, fmt.Errorf("%s %w; everything an overlay uses must be part of it", ref, errLeaves)
	case err != nil:
		return "", false, fmt.Errorf("%s: %w", ref, errors.Unwrap(err))
	}
	return real, info.IsDir(), nil
}

// plugin checks one entry of generators, transformers or validators: a file of
// plugin configurations, or one written in place.
func (w *walk) plugin(dir, ref string) error {
	content, where := []byte(ref), "a configuration in place"
	var inPlace struct{ Kind string }
	if yaml.Unmarshal(content, &inPlace) != nil || inPlace.Kind == "" {
		real, isDir, err := w.reference(dir, ref)
		if err != nil {
			return err
		}
		if isDir {
			// A kustomization of plugins could patch what is checked here.
			return fmt.Errorf("%s is a folder; name the files in it one by one", ref)
		}
		if content, err = w.ReadFile(real); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		where = ref
	}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		var config map[string]any
		if err := yaml.UnmarshalStrict(document, &config); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if len(config) == 0 {
			continue
		}
		switch kind, _ := config["kind"].(string); {
		case config["apiVersion"] != konfig.BuiltinPluginApiVersion:
			return fmt.Errorf("%s: plugin %s %v is not built into kustomize; no plugin is executed here", where, kind, config["apiVersion"])
		case kind == "HelmChartInflationGenerator":
			return fmt.Errorf("%s: helm charts are not rendered here; commit the chart's rendered manifests instead", where)
		}
		if err := w.pluginReferences(dir, config); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
}

// texts are the fields of built-in plugin configurations that hold text of the
// user's, which may well contain a URL. Every other field counts as a
// reference: a new field of kustomize's is refused too much, not too little.
var texts = []string{"annotations", "labels", "literals", "patch", "patches", "jsonop", "value", "values"}

func (w *walk) pluginReferences(dir string, node any) error {
	switch node := node.(type) {
	case map[string]any:
		for _, field := range slices.Sorted(maps.Keys(node)) {
			if slices.Contains(texts, strings.ToLower(field)) {
				continue
			}
			if err := w.pluginReferences(dir, node[field]); err != nil {
				return err
			}
		}
	case []any:
		for _, child := range node {
			if err := w.pluginReferences(dir, child); err != nil {
				return err
			}
		}
	case string:
		ref := keyed(node)
		_, _, err := w.reference(dir, ref)
		if err != nil && (remote(ref) || errors.Is(err, errLeaves)) {
			return err
		}
	}
	return nil
}

// files lists what a kustomization reads besides other kustomizations, by the
// field that names it.
func files(k *types.Kustomization) map[string][]string {
	refs := map[string][]string{
		"crds":           k.Crds,
		"configurations": k.Configurations,
	}
	add := func(field string, paths ...string) {
		for _, path := range paths {
			if path != "" {
				refs[field] = append(refs[field], path)
			}
		}
	}
	add("openapi", k.OpenAPI["path"])
	for _, patch := range k.Patches {
		add("patches", patch.Path)
	}
	for _, patch := range k.PatchesJson6902 {
		add("patchesJson6902", patch.Path)
	}
	for _, patch := range k.PatchesStrategicMerge {
		if !strings.Contains(string(patch), "\n") { // else it is the patch itself
			add("patchesStrategicMerge", string(patch))
		}
	}
	for _, replacement := range k.Replacements {
		add("replacements", replacement.Path)
	}
	generated := func(field string, from types.KvPairSources) {
		add(field, from.EnvSource)
		add(field, from.EnvSources...)
		for _, file := range from.FileSources {
			add(field, keyed(file))
		}
	}
	for _, args := range k.ConfigMapGenerator {
		generated("configMapGenerator", args.KvPairSources)
	}
	for _, args := range k.SecretGenerator {
		generated("secretGenerator", args.KvPairSources)
	}
	return refs
}

// keyed is the path in a "key=path" of a generator's files, or all of it.
func keyed(ref string) string {
	if _, path, ok := strings.Cut(ref, "="); ok && !remote(ref) {
		return path
	}
	return ref
}

// scp matches what kustomize clones although it has no scheme:
// "git@host:org/repo", "github.com/org/repo".
// Source: kustomize's api/internal/git/repospec.go.
var scp = regexp.MustCompile(`(?i)^([a-z][a-z0-9-]*@|github\.com[:/])`)

// remote reports whether kustomize would fetch or clone ref.
func remote(ref string) bool {
	if at, err := url.Parse(ref); err == nil && (at.Scheme == "http" || at.Scheme == "https") {
		return true
	}
	return strings.Contains(ref, "://") || strings.HasPrefix(strings.ToLower(ref), "git::") || scp.MatchString(ref)
}
