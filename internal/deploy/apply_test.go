package deploy

import (
	"maps"
	"slices"
	"testing"
)

// TestByStage: of two overlays, the configuration of the second comes before the
// workloads of the first.
func TestByStage(t *testing.T) {
	t.Parallel()
	var targets []*target
	for _, manifest := range []string{
		"apiVersion: v1\nkind: Service\nmetadata: {name: app}\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\n",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: feed}\n",
		"apiVersion: v1\nkind: Secret\nmetadata: {name: token}\n",
		"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: news}\n",
	} {
		targets = append(targets, &target{object: parse(t, manifest)})
	}
	var order []string
	grounds, settings, works := byStage(targets)
	for _, stage := range [][]*target{grounds, settings, works} {
		for _, t := range stage {
			order = append(order, called(t.object))
		}
		order = append(order, "")
	}
	if want := []string{"namespace/feed", "", "service/app", "secret/token", "", "deployment.apps/app", "cronjob.batch/news", ""}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
}

// TestOwn: an object has the labels of the deploy that applies it, or none where
// no deploy has it to itself, whatever its manifest says.
func TestOwn(t *testing.T) {
	t.Parallel()
	mine := map[string]string{"app": "feed", labelName: "feed-agg", labelNamespace: "feed"}
	d := &deployment{hold: &hold{ledger: ledger{&cluster{namespace: "feed"}, "feed-agg"}}}
	const labels = "  labels: {app: feed, slipway-ci.github.io/deploy: other, slipway-ci.github.io/deploy-namespace: elsewhere}\n"
	for name, tc := range map[string]struct {
		manifest string
		want     map[string]string
	}{
		"prunable":      {"kind: ConfigMap\nmetadata:\n  name: feeds\n" + labels, mine},
		"kept":          {"kind: ConfigMap\nmetadata:\n  name: feeds\n  annotations: {slipway-ci.github.io/prune: disabled}\n" + labels, map[string]string{"app": "feed"}},
		"kept kind":     {"kind: Namespace\nmetadata:\n  name: feed\n" + labels, map[string]string{"app": "feed"}},
		"allowed":       {"kind: Namespace\nmetadata:\n  name: feed\n  annotations: {slipway-ci.github.io/prune: allowed}\n" + labels, mine},
		"without label": {"kind: Namespace\nmetadata:\n  name: feed\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := parse(t, "apiVersion: v1\n"+tc.manifest)
			d.own(object)
			if got := object.GetLabels(); !maps.Equal(got, tc.want) {
				t.Errorf("it has the labels %v, want %v", got, tc.want)
			}
		})
	}
}
