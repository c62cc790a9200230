package deploy

import (
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
