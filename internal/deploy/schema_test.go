package deploy

import (
	"strings"
	"testing"
)

const feedDefinition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: feeds.slipway.test}
spec:
  group: slipway.test
  names: {kind: Feed}
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [url, every]
            anyOf: [{required: [url, kind]}]
            properties:
              url: {type: string}
              kind: {type: string, default: rss}
              every: {type: integer, default: 5}
              sources:
                type: array
                items:
                  type: object
                  required: [name, weight]
                  properties:
                    name: {type: string}
                    weight: {type: integer, default: 1}
              labels:
                type: object
                additionalProperties:
                  type: object
                  required: [color]
                  properties: {color: {type: string, default: red}}
`

// TestCheckAgainst: a field that is required and has a default may be left out,
// at any depth; one that has none may not.
func TestCheckAgainst(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"{url: feed.test}": "",
		"{url: feed.test, sources: [{name: a}], labels: {a: {}}}": "",
		"{every: 5}": "spec.url in body is required",
		"{url: feed.test, sources: [{weight: 1}]}": "spec.sources[0].name in body is required",
		"{url: feed.test, every: often}":           "spec.every in body must be of type integer",
	} {
		err := checkAgainst([]*target{{object: parse(t, feedDefinition)}},
			[]*target{{object: parse(t, "apiVersion: slipway.test/v1\nkind: Feed\nmetadata: {name: news}\nspec: "+spec+"\n")}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}
