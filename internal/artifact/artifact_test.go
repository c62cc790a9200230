package artifact_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/internal/artifact"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]artifact.Artifact{
		"":                                {},
		" name=api image=r.test/api:v1\n": {Name: "api", Image: "r.test/api:v1"},
		"context=. target=server":         {Context: ".", Target: "server"},
		"dockerfile=a/Dockerfile build-arg=A=1=2 build-arg=B=": {Dockerfile: "a/Dockerfile", BuildArgs: []string{"A=1=2", "B="}},
	} {
		got, err := artifact.Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%q: want (-), got (+):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"context=a b=c":     `"b=c" is none of name=, image=, context=, dockerfile=, target= and build-arg= with a value`,
		"name=api name=web": "name is there twice",
		"api":               `"api" is none of`,
		"image=":            `"image=" is none of`,
		"=api":              `"=api" is none of`,
		"Image=x":           `"Image=x" is none of`,
	} {
		if _, err := artifact.Parse(text); err == nil || !strings.HasPrefix(err.Error(), "param artifact: "+want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestOver(t *testing.T) {
	t.Parallel()
	image, context, dockerfile, target, args := "i", ".", "Dockerfile", "", []string{"A=1"}
	(&artifact.Artifact{Context: "api", Target: "server", BuildArgs: []string{"B=2"}}).Over(&image, &context, &dockerfile, &target, &args)
	if diff := cmp.Diff([]string{"i", "api", "Dockerfile", "server", "A=1", "B=2"}, append([]string{image, context, dockerfile, target}, args...)); diff != "" {
		t.Error(diff)
	}
}
