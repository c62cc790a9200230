package deploy

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestAdmit: who may replace what the inventory has, and in which place. At
// event b of second 200 is what a run finds, or event a in the place that was
// found for it after b's.
func TestAdmit(t *testing.T) {
	t.Parallel()
	at := func(seconds int64, event string) place { return place{time.Unix(seconds, 0).UTC(), event} }
	for name, tc := range map[string]struct {
		prior     place
		run       place
		overrides string
		want      string // the event of its place; "" if it is overtaken
	}{
		"newer":                      {prior: at(200, "b"), run: at(300, "c"), want: "c"},
		"older":                      {prior: at(200, "b"), run: at(100, "a")},
		"repeated":                   {prior: at(200, "b"), run: at(200, "b"), want: "b"},
		"overrides":                  {prior: at(200, "b"), run: at(100, "a"), overrides: "b", want: "b+a"},
		"overrides another":          {prior: at(200, "b"), run: at(100, "a"), overrides: "c"},
		"overrides, repeated":        {prior: at(200, "b+a"), run: at(100, "a"), overrides: "b", want: "b+a"},
		"overrides by a later event": {prior: at(300, "c"), run: at(300, "c"), overrides: "b", want: "c"},
		"overrides, replaced since":  {prior: at(200, "b+a+c"), run: at(100, "a"), overrides: "b"},
		"repeated without override":  {prior: at(200, "b+a"), run: at(100, "a")},
		"overridden, repeated":       {prior: at(200, "b+a"), run: at(200, "b")},
		"no time, repeated":          {prior: at(200, "b+a"), run: place{Event: "a"}, want: "b+a"},
	} {
		h := &hold{attempt: "this", run: inventory{Place: tc.run}, overrides: tc.overrides, named: true}
		h.now = stored{inventory: inventory{Place: tc.prior}, config: &corev1.ConfigMap{}}
		switch err := h.admit(); {
		case tc.want == "" && err == nil:
			t.Errorf("%s: it is admitted as %s", name, h.run.Place)
		case tc.want != "" && (err != nil || h.run.Place.Event != tc.want):
			t.Errorf("%s: %s, %v; want event %s", name, h.run.Place, err, tc.want)
		}
	}
}
