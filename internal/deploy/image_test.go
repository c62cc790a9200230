package deploy

import (
	"strings"
	"testing"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestParseImage(t *testing.T) {
	t.Parallel()
	for param, want := range map[string]image{
		"r.test/feed-agg@" + digestA:                         {"r.test/feed-agg", "r.test/feed-agg", "", digestA},
		"r.test:5000/team/feed-agg:v1@" + digestA:            {"r.test:5000/team/feed-agg", "r.test:5000/team/feed-agg", "v1", digestA},
		"r.test:5000/feed-agg@" + digestA:                    {"r.test:5000/feed-agg", "r.test:5000/feed-agg", "", digestA},
		"feed-agg=r.test/feed-agg:v1@" + digestA:             {"feed-agg", "r.test/feed-agg", "v1", digestA},
		"=r.test/feed-agg@" + digestA:                        {"r.test/feed-agg", "r.test/feed-agg", "", digestA},
		"old.test/app=registry.registry:5000/app@" + digestA: {"old.test/app", "registry.registry:5000/app", "", digestA},
	} {
		got, err := parseImage(param)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", param, got, err, want)
		}
		if !strings.HasSuffix(param, got.String()) {
			t.Errorf("%s becomes %s", param, got)
		}
	}
}

func TestParseImagesRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		params []string
		want   string
	}{
		{[]string{"r.test/feed-agg:v1"}, `image "r.test/feed-agg:v1" has no digest; give it as [name=]registry/repository[:tag]@sha256:…`},
		{[]string{"r.test/feed-agg@"}, `image "r.test/feed-agg@" has no digest; give it as [name=]registry/repository[:tag]@sha256:…`},
		{[]string{""}, `image "" has no digest; give it as [name=]registry/repository[:tag]@sha256:…`},
		{[]string{"feed-agg=r.test/feed-agg@sha256:1"}, `image "feed-agg=r.test/feed-agg@sha256:1": `},
		{[]string{"feed agg=r.test/feed-agg@" + digestA}, `image "feed agg=r.test/feed-agg@` + digestA + `": name "feed agg": `},
		{[]string{"app=r.test/app@" + digestA, "app=r.test/new@" + digestB}, `image "app" is given twice; give each name once`},
	} {
		if _, err := parseImages(tc.params); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.params, err, tc.want)
		}
	}
}

// TestUnusedImage: a deploy that would not deploy the image is refused.
func TestUnusedImage(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec: {initContainers: [{name: i, image: migrate}], containers: [{name: c, image: r.test/proxy:v1}]}\n"
	const late = `
apiVersion: builtin
kind: PatchTransformer
metadata: {name: late}
target: {kind: Pod}
patch: |
  - {op: add, path: /spec/containers/-, value: {name: late, image: "migrate:v1"}}
`
	for name, tc := range map[string]struct {
		files map[string]string
		image string
		want  string
	}{
		"used nowhere": {
			map[string]string{"overlay/kustomization.yaml": "resources: [pod.yaml]\n", "overlay/pod.yaml": pod}, "r.test/feed-agg@" + digestA,
			"image r.test/feed-agg is used in no manifest of the overlay, which has migrate, r.test/proxy:v1; use that name in the manifests, " +
				"or give the image as <name in the manifests>=r.test/feed-agg@" + digestA,
		},
		"no image at all": {
			map[string]string{"overlay/kustomization.yaml": "configMapGenerator: [{name: c, literals: [a=b]}]\n"}, "r.test/feed-agg@" + digestA,
			"image r.test/feed-agg is used in no manifest of the overlay, which has no image at all; use that name in the manifests, " +
				"or give the image as <name in the manifests>=r.test/feed-agg@" + digestA,
		},
		"added after images are set": {
			map[string]string{"overlay/kustomization.yaml": "resources: [pod.yaml]\ntransformers: [late.yaml]\n", "overlay/pod.yaml": pod, "overlay/late.yaml": late},
			"migrate=r.test/migrate@" + digestA,
			"image migrate is still migrate:v1 in what the overlay renders; set it before the overlay's own transformers do",
		},
	} {
		images, err := parseImages([]string{tc.image})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := render(tree(t, "", tc.files), []string{"overlay"}, images, nil, ""); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v\nwant: %s", name, err, tc.want)
		}
	}
}
