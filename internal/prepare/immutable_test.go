package prepare_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/internal/step"
)

// A tag that must not move may be the image's own already, where that is known
// before it is built. And what the inputs are called can be a tag itself.
func TestTagsOfWhatIsUnchanged(t *testing.T) {
	t.Parallel()
	b := newDeclared(t, nil)
	b.arrays["--tags"] = []string{"inputDigest"}
	inputs := b.inputs(t)
	b.remember(t, b.put(t, "team/app:v1", 5))
	b.arrays["--immutable-tags"] = []string{"v*"}
	p, log := b.prepare(t)
	if p.Unchanged == nil || !slices.Equal(p.Tags, []string{inputs}) {
		t.Errorf("%+v, tags %q, the inputs are %s\n%s", p.Unchanged, p.Tags, inputs, log)
	}

	b.env["PARAM_SKIP_UNCHANGED"], b.arrays["--immutable-tags"] = "false", nil
	if p, log := b.prepare(t); p.Unchanged != nil || !slices.Equal(p.Tags, []string{inputs}) {
		t.Errorf("%+v, tags %q, the inputs are %s\n%s", p.Unchanged, p.Tags, inputs, log)
	}
}

// What is too old would be built anew, but where its tag must not move there is
// no place for another: a retry of the run gets what it has.
func TestAnOldImageWhoseTagMustNotMove(t *testing.T) {
	t.Parallel()
	b := newDeclared(t, nil)
	b.env["PARAM_UNCHANGED_TTL"] = "59m"
	digest := b.put(t, "team/app:v1", 5)
	b.remember(t, digest)
	b.arrays["--immutable-tags"] = []string{"v*"}
	p, log := b.prepare(t)
	if p.Unchanged == nil || p.Unchanged.Digest != digest || !strings.Contains(log, "/team/app:v1 is that image already, and must not move\n") {
		t.Errorf("%+v\n%s", p.Unchanged, log)
	}
	b.env["PARAM_IMAGE"] = b.host + "/team/app:v2" // is free
	if p, log := b.prepare(t); p.Unchanged != nil {
		t.Errorf("%+v\n%s", p.Unchanged, log)
	}
	b.put(t, "team/app:v2", 6)
	if log, err := b.run(t); step.ExitCode(err) != step.ExitBadInput || !strings.Contains(err.Error(), "/team/app:v2 is sha256:") {
		t.Errorf("%v\n%s", err, log)
	}
}

// A registry that does not say what was built leaves it to the step push to
// tell whether a tag is the image's own, if another build makes the same image.
func TestATagThatMayBeTheImagesOwn(t *testing.T) {
	t.Parallel()
	status := http.StatusInternalServerError
	b := newDeclared(t, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/slipway-inputs-") || status == 0 {
			return false
		}
		w.WriteHeader(status)
		return true
	})
	b.put(t, "team/app:v1", 5)
	b.arrays["--immutable-tags"] = []string{"v*"}
	if p, log := b.prepare(t); p.Unchanged != nil || !strings.Contains(log, "already, and must not move") || !strings.Contains(log, "the step push asks again\n") {
		t.Errorf("%+v\n%s", p.Unchanged, log)
	}
	for title, change := range map[string]func(){
		"another image each time": func() { b.env["PARAM_REPRODUCIBLE"] = "false" },
		"a registry that answers": func() { b.env["PARAM_REPRODUCIBLE"], status = "true", 0 },
	} {
		b.env["PARAM_REPRODUCIBLE"], status = "true", http.StatusInternalServerError
		change()
		if log, err := b.run(t); step.ExitCode(err) != step.ExitBadInput {
			t.Errorf("%s: %v\n%s", title, err, log)
		}
	}
	// What is not pushed needs no tag.
	b.env["PARAM_PUSH"], b.env["PARAM_TAR_PATH"], b.env["WORKSPACE_OUTPUT_PATH"] = "false", "app.tar", t.TempDir()
	b.prepare(t)
}
