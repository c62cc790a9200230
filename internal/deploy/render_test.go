package deploy

import (
	"bytes"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// go test ./internal/deploy -update writes the golden files anew.
var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// TestRender renders each folder of testdata/render: its source with what its
// args.yaml says, to its golden.yaml.
func TestRender(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/render/*")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			var args struct {
				Overlay     string   `json:"overlay"`
				Images      []string `json:"images"`
				ImageFields []string `json:"image-fields"`
				Namespace   string   `json:"namespace"`
			}
			content, err := os.ReadFile(filepath.Join(dir, "args.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.UnmarshalStrict(content, &args); err != nil {
				t.Fatal(err)
			}
			images, err := parseImages(args.Images)
			if err != nil {
				t.Fatal(err)
			}
			fields, err := parseImageFields(args.ImageFields)
			if err != nil {
				t.Fatal(err)
			}
			made, err := render(filepath.Join(dir, "source"), (&config{Overlay: args.Overlay}).overlays(), images, fields, args.Namespace)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for i, object := range made.objects {
				if i > 0 {
					got.WriteString("---\n")
				}
				document, err := yaml.Marshal(object.Object)
				if err != nil {
					t.Fatal(err)
				}
				got.Write(document)
			}
			golden := filepath.Join(dir, "golden.yaml")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("golden (-), rendered (+):\n%s", diff)
			}
		})
	}
}

// TestRenderRefuses has one case for each way out of the source that kustomize
// knows. A file whose content begins with "-> " is a symbolic link; SERVER is
// the address of a server that must not be asked.
func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was fetched", r.URL)
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)

	const (
		helm   = "helm charts are not rendered here; commit the chart's rendered manifests instead"
		beyond = "leads out of the source; everything an overlay uses must be part of it"
		remote = "is remote; commit a copy to the source and name that"
	)
	overlay := func(content string) map[string]string {
		return map[string]string{"overlay/kustomization.yaml": content}
	}
	for name, tc := range map[string]struct {
		files   map[string]string
		overlay string // "overlay" if empty
		want    string
	}{
		// The overlay itself.
		"missing overlay":   {files: nil, want: `overlay overlay: no such file or folder in the source`},
		"remote overlay":    {overlay: "https://github.com/org/repo", want: `overlay https://github.com/org/repo: give a folder of the source, relative to its root`},
		"absolute overlay":  {overlay: "/etc", want: `overlay /etc: give a folder of the source, relative to its root`},
		"overlay beyond":    {overlay: "../other", want: `overlay ../other: give a folder of the source, relative to its root`},
		"overlay is a file": {files: map[string]string{"overlay": "x"}, want: `overlay overlay is a file; give the folder that holds its kustomization.yaml`},
		"linked overlay":    {files: map[string]string{"overlay": "-> /etc"}, want: `overlay overlay is a symbolic link and leads out of the source`},
		"no kustomization":  {files: map[string]string{"overlay/app.yaml": "x"}, want: `overlay overlay: overlay: the folder has no kustomization.yaml`},
		"two kustomizations": {
			files: map[string]string{"overlay/kustomization.yaml": "", "overlay/kustomization.yml": ""},
			want:  `overlay overlay: overlay: it holds both kustomization.yaml and kustomization.yml; keep one`,
		},
		"linked kustomization": {
			files: map[string]string{"overlay/kustomization.yaml": "-> /etc/passwd"},
			want:  `overlay overlay: overlay/kustomization.yaml is a symbolic link and leads out of the source`,
		},
		"broken kustomization": {
			files: overlay("resources: [\n"),
			want:  "overlay overlay: overlay/kustomization.yaml: invalid Kustomization: yaml: line 1: did not find expected node content",
		},
		"unknown field": {
			files: overlay("resourcez: [app.yaml]\n"),
			want:  `overlay overlay: overlay/kustomization.yaml: invalid Kustomization: json: unknown field "resourcez"`,
		},
		"empty": {
			files: overlay("resources: []\nnamePrefix: a-\n"),
			want:  "overlay overlay renders no object; list its manifests under resources",
		},

		// resources and components
		"http resource":     {files: overlay("resources: [SERVER/app.yaml]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: SERVER/app.yaml ` + remote},
		"git base":          {files: overlay("resources: [\"git@github.com:org/repo//base?ref=v1\"]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: git@github.com:org/repo//base?ref=v1 ` + remote},
		"github shorthand":  {files: overlay("resources: [github.com/org/repo]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: github.com/org/repo ` + remote},
		"git prefix":        {files: overlay("resources: [\"git::host/repo\"]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: git::host/repo ` + remote},
		"file url":          {files: overlay("resources: [\"file:///etc\"]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: file:///etc ` + remote},
		"ssh url":           {files: overlay("bases: [\"ssh://git@host/repo\"]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: ssh://git@host/repo ` + remote},
		"remote component":  {files: overlay("components: [SERVER/repo.git]\n"), want: `overlay overlay: overlay/kustomization.yaml: components: SERVER/repo.git ` + remote},
		"absolute resource": {files: overlay("resources: [/etc/hosts]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: /etc/hosts is absolute; name it relative to the kustomization`},
		"resource beyond":   {files: overlay("resources: [../../other.yaml]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: ../../other.yaml ` + beyond},
		"missing resource":  {files: overlay("resources: [app.yaml]\n"), want: `overlay overlay: overlay/kustomization.yaml: resources: app.yaml: no such file or folder in the source`},
		"linked resource": {
			files: map[string]string{"overlay/kustomization.yaml": "resources: [app.yaml]\n", "overlay/app.yaml": "-> /etc/passwd"},
			want:  `overlay overlay: overlay/kustomization.yaml: resources: app.yaml ` + beyond,
		},
		"linked folder": {
			files: map[string]string{"overlay/kustomization.yaml": "resources: [etc/passwd]\n", "overlay/etc": "-> /etc"},
			want:  `overlay overlay: overlay/kustomization.yaml: resources: etc/passwd ` + beyond,
		},
		"link to a link": {
			files: map[string]string{"overlay/kustomization.yaml": "resources: [a]\n", "overlay/a": "-> b", "overlay/b": "-> ../../x/../../etc"},
			want:  `overlay overlay: overlay/kustomization.yaml: resources: a: no such file or folder in the source`,
		},
		"in a base": {
			files: map[string]string{"overlay/kustomization.yaml": "resources: [../base]\n", "base/kustomization.yaml": "resources: [SERVER/app.yaml]\n"},
			want:  `overlay overlay: base/kustomization.yaml: resources: SERVER/app.yaml ` + remote,
		},
		"in a component": {
			files: map[string]string{
				"overlay/kustomization.yaml":   "components: [../component]\n",
				"component/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: [{path: SERVER/patch.yaml}]\n",
			},
			want: `overlay overlay: component/kustomization.yaml: patches: SERVER/patch.yaml ` + remote,
		},
		"bases that name each other": {
			files: map[string]string{"overlay/kustomization.yaml": "resources: [../base]\n", "base/kustomization.yaml": "resources: [../overlay]\n"},
			want:  `overlay overlay: recursed accumulation of path 'base': cycle detected: candidate root 'overlay' contains visited root 'overlay'`,
		},

		// What is a deploy's own.
		"inventory": {
			files: map[string]string{
				"overlay/kustomization.yaml": "namePrefix: slipway-\nresources: [map.yaml]\n",
				"overlay/map.yaml":           "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: deploy-feed-agg, namespace: feed}\n",
			},
			want: "overlay overlay has configmap/slipway-deploy-feed-agg in namespace feed: a ConfigMap whose name begins with slipway-deploy- is the inventory of a deploy, " +
				"which writes it by itself; take it out, or give it another name",
		},

		// What else a kustomization reads.
		"crds":                  {files: overlay("crds: [SERVER/crd.json]\n"), want: `overlay overlay: overlay/kustomization.yaml: crds: SERVER/crd.json ` + remote},
		"configurations":        {files: overlay("configurations: [SERVER/c.yaml]\n"), want: `overlay overlay: overlay/kustomization.yaml: configurations: SERVER/c.yaml ` + remote},
		"openapi":               {files: overlay("openapi: {path: SERVER/o.json}\n"), want: `overlay overlay: overlay/kustomization.yaml: openapi: SERVER/o.json ` + remote},
		"patch":                 {files: overlay("patches: [{path: ../../p.yaml}]\n"), want: `overlay overlay: overlay/kustomization.yaml: patches: ../../p.yaml ` + beyond},
		"json patch":            {files: overlay("patchesJson6902: [{path: SERVER/p.json}]\n"), want: `overlay overlay: overlay/kustomization.yaml: patchesJson6902: SERVER/p.json ` + remote},
		"strategic merge patch": {files: overlay("patchesStrategicMerge: [SERVER/p.yaml]\n"), want: `overlay overlay: overlay/kustomization.yaml: patchesStrategicMerge: SERVER/p.yaml ` + remote},
		"replacement":           {files: overlay("replacements: [{path: SERVER/r.yaml}]\n"), want: `overlay overlay: overlay/kustomization.yaml: replacements: SERVER/r.yaml ` + remote},
		"config map file":       {files: overlay("configMapGenerator: [{name: c, files: [x=SERVER/x]}]\n"), want: `overlay overlay: overlay/kustomization.yaml: configMapGenerator: x=SERVER/x ` + remote},
		"config map env":        {files: overlay("configMapGenerator: [{name: c, env: SERVER/env}]\n"), want: `overlay overlay: overlay/kustomization.yaml: configMapGenerator: SERVER/env ` + remote},
		"secret file": {
			files: overlay("secretGenerator: [{name: s, files: [token=../../../var/run/secrets/token]}]\n"),
			want:  `overlay overlay: overlay/kustomization.yaml: secretGenerator: ../../../var/run/secrets/token ` + beyond,
		},
		"linked secret file": {
			files: map[string]string{"overlay/kustomization.yaml": "secretGenerator: [{name: s, files: [token]}]\n", "overlay/token": "-> /etc/passwd"},
			want:  `overlay overlay: overlay/kustomization.yaml: secretGenerator: token ` + beyond,
		},

		// What would be executed.
		"helm charts":    {files: overlay("helmCharts: [{name: app, repo: SERVER}]\n"), want: `overlay overlay: overlay/kustomization.yaml: helmCharts: ` + helm},
		"old helm field": {files: overlay("helmChartInflationGenerator: [{chartName: app}]\n"), want: `overlay overlay: overlay/kustomization.yaml: helmCharts: ` + helm},
		"helm globals":   {files: overlay("helmGlobals: {chartHome: charts}\n"), want: `overlay overlay: overlay/kustomization.yaml: helmCharts: ` + helm},
		"helm as plugin": {files: overlay("generators: [\"{apiVersion: builtin, kind: HelmChartInflationGenerator, metadata: {name: h}}\"]\n"), want: `overlay overlay: overlay/kustomization.yaml: generators: a configuration in place: ` + helm},
		"remote plugin":  {files: overlay("validators: [SERVER/v.yaml]\n"), want: `overlay overlay: overlay/kustomization.yaml: validators: SERVER/v.yaml ` + remote},
		"plugins' folder": {
			files: map[string]string{"overlay/kustomization.yaml": "transformers: [t]\n", "overlay/t/kustomization.yaml": "resources: [t.yaml]\n"},
			want:  `overlay overlay: overlay/kustomization.yaml: transformers: t is a folder; name the files in it one by one`,
		},
		"plugin that is executed": {
			files: map[string]string{
				"overlay/kustomization.yaml": "transformers: [t.yaml]\n",
				"overlay/t.yaml":             "apiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: l}\n---\napiVersion: example.test/v1\nkind: Seal\nmetadata: {name: s}\n",
			},
			want: `overlay overlay: overlay/kustomization.yaml: transformers: t.yaml: plugin Seal example.test/v1 is not built into kustomize; no plugin is executed here`,
		},
		"plugin that fetches": {
			files: map[string]string{
				"overlay/kustomization.yaml": "transformers: [t.yaml]\n",
				"overlay/t.yaml":             "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\nPath: SERVER/p.yaml\n",
			},
			want: `overlay overlay: overlay/kustomization.yaml: transformers: t.yaml: SERVER/p.yaml ` + remote,
		},
		"plugin that reads beyond": {
			files: overlay("generators:\n- |\n  apiVersion: builtin\n  kind: SecretGenerator\n  metadata: {name: s}\n  files: [token=../../../etc/passwd]\n"),
			want:  `overlay overlay: overlay/kustomization.yaml: generators: a configuration in place: ../../../etc/passwd ` + beyond,
		},

		// Kustomize's own errors name files by their place in the source.
		"broken manifest": {
			files: map[string]string{"overlay/kustomization.yaml": "resources: [app.yaml]\n", "overlay/app.yaml": "kind: Pod\n"},
			want: `overlay overlay: accumulation err='accumulating resources from 'app.yaml': missing metadata.name in object {{ Pod} {{ } map[] map[]}}': ` +
				`must build at directory: 'overlay/app.yaml': file is not directory`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := tc.overlay
			if at == "" {
				at = "overlay"
			}
			_, err := render(tree(t, server.URL, tc.files), []string{at}, nil, nil, "")
			if err == nil {
				t.Fatal("it was rendered")
			}
			if got := strings.ReplaceAll(err.Error(), server.URL, "SERVER"); got != tc.want {
				t.Errorf("error:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

// tree writes files to a folder that lies in one of its own.
func tree(t *testing.T, server string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "SERVER", server)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Two overlays that have one object would each say what it is.
func TestOverlaysWithOneObject(t *testing.T) {
	t.Parallel()
	dir := tree(t, "", map[string]string{
		"base/kustomization.yaml": "resources: [map.yaml]\n",
		"base/map.yaml":           "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n",
		"one/kustomization.yaml":  "resources: [../base]\n",
		"two/kustomization.yaml":  "resources: [../base]\nnamespace: other\n",
	})
	_, err := render(dir, []string{"one", "base"}, nil, nil, "")
	if want := "overlays one and base both have configmap/settings: leave one of them out, or give it another name or namespace"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %q", err, want)
	}
	if _, err := render(dir, []string{"one", "two"}, nil, nil, ""); err != nil {
		t.Errorf("in two namespaces: %v", err)
	}
	if _, err := render(dir, []string{"one", "two"}, nil, nil, "third"); err == nil {
		t.Error("both in one namespace: there is no error")
	}
}
